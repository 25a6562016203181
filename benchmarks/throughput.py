"""Throughput of the engines as shares of the bare chain: kernels and models in a tight loop."""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from sluice.benchmarks.conditions import benchmark_conditions
from sluice.pipeline.config.graph_file import (
    ComponentConfig,
    GraphConfig,
    load_graph,
)
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Schema
from sluice.pipeline.detectors.wafer import WORDS
from sluice.pipeline.graph.model_backends import override_backend
from sluice.pipeline.recording import RecordingWriter
from sluice.pipeline.run.run_numbers import UNNUMBERED
from sluice.pipeline.service.run_graph import raise_unless_clean, run_graph
from sluice.pipeline.service.session import RunOptions

from .bare_chain import Measure, bare_chain

#: Events of a record batch of the recording that the engines read.
_RECORDED = 16_384
#: Times that a run reads it: ending a run takes some hundredths of a second, whatever its length.
_TURNS = 3
#: Graphs to measure, and the prefix of their names in the result.
_GRAPHS = {"hgcal": "", "compress": "compress-"}
#: `hgcal` with all models in ONNX Runtime.
_GENERAL = "onnxruntime-"


def measure_pipeline(
    events: EventBatch, total: int, batch: int | None, repeats: int, workers: int
) -> dict[str, Any]:
    """Measure two graphs: the bare chain, then each engine, in turn, `repeats` times.

    ``hgcal`` as it ships, menu and EMD monitor included, recording accepted events; ``compress``
    records the latents of all events (names with ``compress-``). A bare chain is the kernels and
    models of the graph on arrays in memory, on one core. ``onnxruntime-`` is ``hgcal`` inline with
    all models in ONNX Runtime, beside its own bare chain. All engines read a recording and write
    one; the bare chains do neither.

    Parameters
    ----------
    events
        Wafers with `words`; repeated up to `total`.
    total
        Wafers of the recording; the engines with Sluice's own backend read it three times a run.
    batch
        Events a batch; each graph's own if None.
    repeats
        The median of this many counts.
    workers
        The distributed engine is measured with 1 to this many compute workers.

    Returns
    -------
    dict
        ``rates`` in events/s, ``ratios`` to the bare chain of the same graph and round, by name;
        ``spread`` of the ratios (lowest, highest); and the conditions.
    """
    conditions = benchmark_conditions()
    copies = max(1, round(total / events.events))
    graphs = {prefix: _sized(load_graph(name), batch) for name, prefix in _GRAPHS.items()}
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=memory()) as name:
        folder = Path(name)
        recording = folder / "wafers.arrows"
        _repeat(events, copies, recording)
        measures: dict[str, Measure] = {}
        for prefix, graph in graphs.items():
            size = graph.graph.batch_events
            measures[f"{prefix}bare"] = bare_chain(events, graph, size, copies)
            if not prefix:
                general = override_backend(graph, "onnxruntime")
                measures[f"{_GENERAL}bare"] = bare_chain(events, general, size, copies)
                whole = _recorded(general, recording, folder, 1)
                measures[f"{_GENERAL}inline"] = _run(whole, "inline")
            whole = _recorded(graph, recording, folder, _TURNS)
            measures |= _engines(prefix, whole, workers)
        rounds = [{key: measure() for key, measure in measures.items()} for _ in range(repeats)]
    ratios = {key: [one[key] / one[_bare_of(key)] for one in rounds] for key in measures}
    return {
        "rates": {key: statistics.median(one[key] for one in rounds) for key in measures},
        "ratios": {key: statistics.median(values) for key, values in ratios.items()},
        "spread": {key: [min(values), max(values)] for key, values in ratios.items()},
        "conditions": {
            "events": copies * events.events,
            "batch_events": {g.graph.name: g.graph.batch_events for g in graphs.values()},
            "sink": "recording, in all engines; none in bare chains",
            "compression": "none",
            "repeats": repeats,
            **conditions,
        },
    }


def _sized(graph: GraphConfig, batch: int | None) -> GraphConfig:
    table = replace(graph.graph, batch_events=batch or graph.graph.batch_events)
    return replace(graph, graph=table)


def _bare_of(name: str) -> str:
    prefixes = sorted((*_GRAPHS.values(), _GENERAL), reverse=True)
    return next(f"{prefix}bare" for prefix in prefixes if name.startswith(prefix))


def _engines(prefix: str, graph: GraphConfig, workers: int) -> dict[str, Measure]:
    measures = {f"{prefix}inline": _run(graph, "inline")}
    for count in range(1, workers + 1):
        table = replace(graph.workers, compute=count)
        measures[f"{prefix}distributed-{count}"] = _run(
            replace(graph, workers=table), "distributed"
        )
    return measures


def _recorded(graph: GraphConfig, recording: Path, folder: Path, turns: int) -> GraphConfig:
    """Return the graph with a recording that is read `turns` times, into another recording."""
    source = {"path": str(recording), "repeat": turns}
    sink = {**graph.sink.options, "path": str(folder / "kept.arrows"), "compression": "none"}
    return replace(
        graph,
        source=ComponentConfig("recording", "bench", source),
        sink=ComponentConfig("recording", "kept", sink),
    )


def _run(config: GraphConfig, engine: str) -> Measure:
    """Return a measurement of a run: events over its wall time, start-up excluded."""

    def measure() -> float:
        report = run_graph(config, RunOptions(run=UNNUMBERED, engine=engine, force=True))
        raise_unless_clean(report)
        rate: float = report["rate_hz"]
        return rate

    return measure


def _repeat(events: EventBatch, copies: int, path: Path) -> None:
    """Record the events `copies` times, with ids that never repeat."""
    schema = Schema((EVENT_ID, T_EVENT, WORDS))
    about = {"events": copies * events.events}
    with RecordingWriter(path, schema, about, compression="none") as writer:
        for copy in range(copies):
            ids = events["event_id"] + np.uint64(copy * events.events)
            whole = EventBatch({**events.columns, "event_id": ids}, events.events, copy)
            for start in range(0, events.events, _RECORDED):
                writer.write(whole.slice(start, start + _RECORDED))


def memory() -> str | None:
    """Return a folder in memory, so that no disk is measured; None if there is none."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
