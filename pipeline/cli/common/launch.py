"""How the commands that make runs begin one, follow it and tell of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from msgspec.structs import replace

from sluice.pipeline.cli.tune import tuned
from sluice.pipeline.config.graph_file import GraphConfig, override_backend
from sluice.pipeline.core.errors import EXIT_DAMAGED_INPUT, EXIT_DIFFERENT

from .output_files import refuse_collisions, side_files, write

if TYPE_CHECKING:
    from sluice.pipeline.service.session import RunOptions
    from sluice.pipeline.system.fork_server.client import ForkServer


def with_backend(config: GraphConfig, backend: str | None) -> GraphConfig:
    """Return the graph as it was tuned, its models on the command line's backend if it has one."""
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
    crew = config.workers if workers is None else replace(config.workers, compute=workers, chain=())
    return replace(config, sink=sink, workers=crew)


@contextmanager
def fork_server_for(config: GraphConfig, engine: str) -> Iterator[ForkServer | None]:
    """Yield where processes come from: begun before there are threads, sockets or devices."""
    from sluice.pipeline.engine.distributed.process import start_fork_server

    if engine != "distributed":
        yield None
        return
    with closing(start_fork_server(config, fork_now=True)) as nursery:
        yield nursery


def run_once(
    config: GraphConfig, wishes: RunOptions, report: Path | None, nursery: ForkServer | None,
    *, as_json: bool,
) -> None:  # fmt: skip
    """Make one run."""
    from sluice.pipeline.service.daemon import raise_on_error, run_graph

    from .comparison import has_differences
    from .progress import print_address, run_progress

    refuse_collisions(config, *side_files(wishes, report))
    with run_progress(quiet=as_json) as progress:
        result = run_graph(config, wishes, progress, print_address, nursery)
    _print_report(result, report, as_json=as_json)
    raise_on_error(result)
    if has_differences(result):
        raise typer.Exit(EXIT_DIFFERENT)
    if result["damage"]:
        typer.echo(f"sluice: input damaged: {result['damage']}", err=True)
        raise typer.Exit(EXIT_DAMAGED_INPUT)


def serve(
    load: Callable[[], GraphConfig],
    wishes: RunOptions,
    report: Path | None,
    nursery: ForkServer | None,
    *,
    as_json: bool,
) -> None:
    """Make a run at each `start` until SIGTERM."""
    from sluice.pipeline.service.daemon import Daemon

    from .progress import print_address, run_progress

    def checked() -> GraphConfig:
        config = load()
        refuse_collisions(config, *side_files(wishes, report))
        return config

    with run_progress(quiet=as_json) as progress:
        daemon = Daemon(checked, wishes, progress, print_address, nursery)
        daemon.serve(lambda result: _print_report(result, report, as_json=as_json))


def _print_report(result: dict[str, Any], report: Path | None, *, as_json: bool) -> None:
    """Show a run's report and write it."""
    import msgspec

    from sluice.pipeline.run.run_numbers import expand_run_number

    from .summary import show

    report = expand_run_number(report, result["run"])
    text = msgspec.json.format(msgspec.json.encode(result), indent=2).decode()
    if as_json:
        typer.echo(text)
    else:
        show(result, report)
    if report is not None:
        write(report, text + "\n")
