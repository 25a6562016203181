"""Start, progress and report of runs, for the commands that execute them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from msgspec import Struct
from msgspec.structs import replace

from sluice.pipeline.cli.tune import tuned
from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.core.errors import EXIT_DAMAGED_INPUT, EXIT_DIFFERENT

from .output_files import create_folders, refuse_collisions, side_files, write

if TYPE_CHECKING:
    from sluice.pipeline.service.session import RunOptions
    from sluice.pipeline.system.fork_server.client import ForkServer


class RunArguments(Struct, frozen=True, kw_only=True):
    """Options that `sluice run` and `sluice replay` share; their help texts describe them."""

    report: Path | None
    out: Path | None
    quarantine: Path | None
    reference: Path | None
    http: str | None
    engine: str
    workers: int | None
    backend: str | None
    run_number: int | None
    resume: bool
    as_json: bool

    def run_options(self, *, http: str | None = None, rate_hz: float | None = None) -> RunOptions:
        """Return the run options; `http` is the default address to listen on."""
        from sluice.pipeline.service.session import RunOptions

        return RunOptions(
            run=self.run_number,
            engine=self.engine,
            rate_hz=rate_hz,
            http=self.http or http,
            quarantine=self.quarantine,
            reference=self.reference,
            resume=self.resume,
        )


def with_backend(config: GraphConfig, backend: str | None) -> GraphConfig:
    """Return the graph with tuned settings, and with the backend of the command line if given."""
    from sluice.pipeline.graph.model_backends import override_backend
    from sluice.pipeline.inference.session import require_backend

    config = tuned(config)
    if backend is None:
        return config
    require_backend(backend, "--backend")
    return override_backend(config, backend)


def with_overrides(config: GraphConfig, out: Path | None, workers: int | None) -> GraphConfig:
    """Return the graph with the command line's sink path and number of workers."""
    sink = config.sink
    if out is not None and sink.use == "recording":
        sink = replace(sink, options={**sink.options, "path": str(out)})
    table = (
        config.workers if workers is None else replace(config.workers, compute=workers, chain=())
    )
    return replace(config, sink=sink, workers=table)


@contextmanager
def fork_server_for(config: GraphConfig, engine: str) -> Iterator[ForkServer | None]:
    """Yield a fork server, started before this process has threads, sockets or devices."""
    from sluice.pipeline.engine.distributed.process import start_fork_server

    if engine != "distributed":
        yield None
        return
    with closing(start_fork_server(config, fork_now=True)) as server:
        yield server


def run_once(
    config: GraphConfig, options: RunOptions, arguments: RunArguments, server: ForkServer | None
) -> None:
    """Execute one run after all checks of its start."""
    from sluice.pipeline.service.run_graph import raise_on_error, run_graph

    from .comparison import has_differences
    from .progress import print_address, run_progress

    report = arguments.report
    require_startable(config, options, report)
    with run_progress(quiet=arguments.as_json) as progress:
        result = run_graph(config, options, progress, print_address, server)
    _print_report(result, report, as_json=arguments.as_json)
    raise_on_error(result)
    if has_differences(result):
        raise typer.Exit(EXIT_DIFFERENT)
    if result["damage"]:
        typer.echo(f"sluice: input damaged: {result['damage']}", err=True)
        raise typer.Exit(EXIT_DAMAGED_INPUT)


def require_startable(config: GraphConfig, options: RunOptions, report: Path | None) -> None:
    """Check that a run can start, then create the folders of its files."""
    from sluice.pipeline.tools.validation import validate_run

    beside = side_files(options, report)
    refuse_collisions(config, *beside)
    validate_run(config, options)
    create_folders(*beside)


def serve(
    load: Callable[[], GraphConfig],
    options: RunOptions,
    arguments: RunArguments,
    server: ForkServer | None,
) -> None:
    """Execute a run at each `start` until SIGTERM."""
    from sluice.pipeline.service.daemon import Daemon

    from .progress import print_address, run_progress

    report, as_json = arguments.report, arguments.as_json

    def checked() -> GraphConfig:
        config = load()
        require_startable(config, options, report)
        return config

    with run_progress(quiet=as_json) as progress:
        daemon = Daemon(checked, options, progress, print_address, server)
        daemon.serve(lambda result: _print_report(result, report, as_json=as_json))


def _print_report(result: dict[str, Any], report: Path | None, *, as_json: bool) -> None:
    """Print the report of a run and write it to its file."""
    import msgspec

    from sluice.pipeline.run.run_numbers import expand_run_number

    from .output import print_json
    from .summary import show

    report = expand_run_number(report, result["run"])
    if as_json:
        print_json(result, indent=True)
    else:
        show(result, report)
    if report is not None:
        write(report, msgspec.json.format(msgspec.json.encode(result), indent=2).decode() + "\n")
