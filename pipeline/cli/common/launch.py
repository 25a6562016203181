"""How the commands that make runs begin one, follow it and tell of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from msgspec.structs import replace

from sluice.pipeline.cli.tune import tuned
from sluice.pipeline.config.graph_file import GraphConfig, on_backend
from sluice.pipeline.core.errors import EXIT_DAMAGED_INPUT, EXIT_DIFFERENT

from .output_files import others, refuse_collisions, write

if TYPE_CHECKING:
    from sluice.pipeline.service.session import Wishes
    from sluice.pipeline.system.fork_server.client import Nursery


def judged(config: GraphConfig, backend: str | None) -> GraphConfig:
    """Return the graph as it was tuned, its models on the command line's backend if it has one."""
    from sluice.pipeline.inference.session import require_backend

    config = tuned(config)
    if backend is None:
        return config
    require_backend(backend, "--backend")
    return on_backend(config, backend)


def overridden(config: GraphConfig, out: Path | None, workers: int | None) -> GraphConfig:
    """Return the graph with the command line's sink path and number of workers."""
    sink = config.sink
    if out is not None and sink.use == "recording":
        sink = replace(sink, options={**sink.options, "path": str(out)})
    crew = config.workers if workers is None else replace(config.workers, compute=workers, chain=())
    return replace(config, sink=sink, workers=crew)


@contextmanager
def nursery_of(config: GraphConfig, engine: str) -> Iterator[Nursery | None]:
    """Yield where processes come from: begun before there are threads, sockets or devices."""
    from sluice.pipeline.engine.distributed.process import found_nursery

    if engine != "distributed":
        yield None
        return
    with closing(found_nursery(config, alone=True)) as nursery:
        yield nursery


def make_run(
    config: GraphConfig, wishes: Wishes, report: Path | None, nursery: Nursery | None,
    *, as_json: bool,
) -> None:  # fmt: skip
    """Make one run."""
    from sluice.pipeline.service.daemon import check_report, execute

    from .comparison import differs
    from .progress import announce, run_progress

    refuse_collisions(config, *others(wishes, report))
    with run_progress(quiet=as_json) as progress:
        result = execute(config, wishes, progress, announce, nursery)
    _tell(result, report, as_json=as_json)
    check_report(result)
    if differs(result):
        raise typer.Exit(EXIT_DIFFERENT)
    if result["damage"]:
        typer.echo(f"sluice: input damaged: {result['damage']}", err=True)
        raise typer.Exit(EXIT_DAMAGED_INPUT)


def serve(
    load: Callable[[], GraphConfig], wishes: Wishes, report: Path | None, nursery: Nursery | None,
    *, as_json: bool,
) -> None:  # fmt: skip
    """Make a run at each `start` until SIGTERM."""
    from sluice.pipeline.service.daemon import Daemon

    from .progress import announce, run_progress

    def checked() -> GraphConfig:
        config = load()
        refuse_collisions(config, *others(wishes, report))
        return config

    with run_progress(quiet=as_json) as progress:
        daemon = Daemon(checked, wishes, progress, announce, nursery)
        daemon.serve(lambda result: _tell(result, report, as_json=as_json))


def _tell(result: dict[str, Any], report: Path | None, *, as_json: bool) -> None:
    """Show a run's report and write it."""
    import msgspec

    from sluice.pipeline.run.run_numbers import in_run

    from .summary import show

    report = in_run(report, result["run"])
    text = msgspec.json.format(msgspec.json.encode(result), indent=2).decode()
    if as_json:
        typer.echo(text)
    else:
        show(result, report)
    if report is not None:
        write(report, text + "\n")
