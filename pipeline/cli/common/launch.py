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
from sluice.pipeline.core.errors import (
    EXIT_DAMAGED_INPUT,
    EXIT_DIFFERENT,
    EXIT_INPUT_UNREAD,
)

from .output_files import require_outputs

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
    force: bool
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
            report=self.report,
            resume=self.resume,
            force=self.force,
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

    require_startable(config, options)
    with run_progress(quiet=arguments.as_json) as progress:
        result = run_graph(config, options, progress, print_address, server)
    _print_report(result, arguments)
    raise_on_error(result)
    if has_differences(result):
        raise typer.Exit(EXIT_DIFFERENT)
    if result["damage"]:
        typer.echo(f"sluice: input damaged: {result['damage']}", err=True)
        raise typer.Exit(EXIT_DAMAGED_INPUT)
    if not result["input"]["whole"]:
        read, expected = result["events"]["offered"], result["input"]["expected"]
        of_all = "" if expected is None else f" of {expected:,}"
        typer.echo(f"sluice: stopped after {read:,}{of_all} events of the input", err=True)
        raise typer.Exit(EXIT_INPUT_UNREAD)


def require_startable(config: GraphConfig, options: RunOptions) -> None:
    """Check that a run can start; creates nothing."""
    from sluice.pipeline.tools.validation import validate_run

    validate_run(config, options)
    require_outputs(config, options)


def serve(
    load: Callable[[], GraphConfig],
    options: RunOptions,
    arguments: RunArguments,
    server: ForkServer | None,
) -> None:
    """Execute a run at each `start` until SIGTERM."""
    from sluice.pipeline.service.daemon import Daemon

    from .progress import print_address, run_progress

    def checked() -> GraphConfig:
        config = load()
        require_startable(config, options)
        return config

    with run_progress(quiet=arguments.as_json) as progress:
        daemon = Daemon(checked, options, progress, print_address, server)
        daemon.serve(lambda result: _print_report(result, arguments))


def _print_report(result: dict[str, Any], arguments: RunArguments) -> None:
    """Print the report of a run, which is in its file already."""
    from sluice.pipeline.run.run_numbers import expand_run_number
    from sluice.pipeline.system.standard_streams import optional_output

    from .output import print_json
    from .summary import show

    if arguments.as_json:
        print_json(result, indent=True)
        return
    with optional_output():
        show(result, expand_run_number(arguments.report, result["run"]))
