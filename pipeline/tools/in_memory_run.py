"""A run as a function call that returns the kept events in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from sluice.pipeline.config.graph_file import (
    ComponentConfig,
    GraphConfig,
    load_graph,
)
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.graph.model_backends import override_backend
from sluice.pipeline.run.run_numbers import UNNUMBERED
from sluice.pipeline.service.daemon import Progress
from sluice.pipeline.service.run_graph import raise_on_error, run_graph
from sluice.pipeline.service.session import RunOptions
from sluice.pipeline.sinks.base import Keep
from sluice.pipeline.sinks.memory import MemorySink, collection
from sluice.pipeline.sources.memory import NAME, MemorySource, shared

from .input_source import source_for
from .result import Result, read
from .validation import validate_run

#: Options of the graph's sink that also apply in memory; those of files are ignored.
_KEPT = ("columns", "keep")


def run(
    graph: str | Path | GraphConfig,
    source: Any,
    *,
    engine: str = "inline",
    columns: Sequence[str] | None = None,
    keep: Keep | None = None,
    backend: str | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Result:
    """Run a graph on events and return those that it keeps.

    No file is written, no run number is used and no port is opened. From the main thread, Ctrl-C
    ends the run after the events that were read; other threads change no signal handler.

    Parameters
    ----------
    graph
        Name of a graph that ships, path of a graph file, or a graph from `load_graph`.
    source
        Path of a file that ``sluice replay`` reads (recording, CSV, HDF5, Parquet, ROOT), or events
        in memory: a dict of NumPy arrays by column name, with one entry per event, or a pyarrow
        Table or RecordBatch.
    engine
        ``inline`` runs in this process; ``distributed`` starts worker processes, which takes
        seconds and pays off for long inputs. Its kept events pass through a temporary file.
    columns
        Names of the columns to keep; those of the graph's sink by default.
    keep
        ``accepted`` or ``all`` events; the value of the graph's sink by default.
    backend
        Backend of all models, such as ``onnxruntime:cuda``; that of the graph by default.
    workers
        Number of workers of the distributed engine; that of the graph by default.
    progress
        Show a progress bar on stderr.

    Returns
    -------
    Result
        The kept events and the report of the run.

    Raises
    ------
    SluiceError
        `ConfigError`, `DataError` or `ModelError` if the run cannot start; `RunError` if it ends
        early.
    """
    config = graph if isinstance(graph, GraphConfig) else load_graph(str(graph))
    if backend is not None:
        config = override_backend(config, backend)
    if workers is not None:
        config = replace(config, workers=replace(config.workers, compute=workers, chain=()))
    kept = {key: config.sink.options[key] for key in _KEPT if key in config.sink.options}
    kept = {"columns": (), "keep": "accepted", **kept}
    if columns is not None:
        kept["columns"] = tuple(columns)
    if keep is not None:
        kept["keep"] = keep
    if not kept["columns"]:
        raise ConfigError(f"{config.origin}: expected names of columns to keep, got none")
    with ExitStack() as stack:
        config = replace(config, source=_source(source, config, stack))
        wanted = RunOptions(run=UNNUMBERED, engine=engine)
        validate_run(config, wanted)
        show = stack.enter_context(_progress() if progress else nullcontext())
        if engine == "inline":
            return _collect(config, kept, wanted, show)
        return _record(config, kept, wanted, show)


def _source(source: Any, config: GraphConfig, stack: ExitStack) -> ComponentConfig:
    if isinstance(source, (str, Path)):
        return source_for(Path(source), config)
    use = f"{MemorySource.__module__}:{MemorySource.__name__}"
    return ComponentConfig(use, NAME, {"table": stack.enter_context(shared(source))})


def _collect(
    config: GraphConfig, kept: dict[str, Any], wanted: RunOptions, show: Progress | None
) -> Result:
    use = f"{MemorySink.__module__}:{MemorySink.__name__}"
    with collection() as (number, collected):
        sink = ComponentConfig(use, NAME, {**kept, "collection": number})
        report = run_graph(replace(config, sink=sink), wanted, show)
    raise_on_error(report)
    return Result(collected.schema, collected.batches, report)


def _record(
    config: GraphConfig, kept: dict[str, Any], wanted: RunOptions, show: Progress | None
) -> Result:
    """Run with a sink in another process; its recording is read and removed."""
    with tempfile.TemporaryDirectory(prefix="sluice-run-") as folder:
        path = Path(folder) / "kept.arrows"
        sink = ComponentConfig("recording", "recording", {**kept, "path": str(path)})
        report = run_graph(replace(config, sink=sink), wanted, show)
        raise_on_error(report)
        found = read(path)
    return Result(found.schema, list(found._batches), {**report, "output": {}})


@contextmanager
def _progress() -> Iterator[Progress]:
    """Yield a function that shows the progress of a run on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("", total=None)
        yield lambda _, accounting, source: bars.update(
            task, completed=accounting.snapshot().settled, total=source.expected
        )
