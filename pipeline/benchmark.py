"""Throughput of the engines as shares of the bare chain: kernels and models in a tight loop."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from sluice.kernels import wafer

from .backends import open_session
from .batch import EVENT_ID, T_EVENT, Array, EventBatch, Schema
from .config import GraphConfig, Part, load_graph
from .daemon import check_report, execute
from .manifest import find_model
from .recording import RecordingWriter
from .session import Wishes
from .stages.wafer import WORDS

_BITS = 9
Measure = Callable[[], float]


def measure_pipeline(
    events: EventBatch, total: int, batch: int | None, repeats: int, workers: int
) -> dict[str, Any]:
    """Measure the bare chain, then each engine, in turn, `repeats` times.

    The bare chain is unpack, normalise, encode, pack, tag on arrays in memory, on one core. The
    engines run the hgcal graph as it ships, menu and EMD monitor included, from a compressed
    recording; inline keeps nothing, the distributed engine records accepted events.

    Parameters
    ----------
    events
        Wafers with `words`; repeated up to `total`.
    total
        Wafers a measurement.
    batch
        Events a batch; the graph's own if None.
    repeats
        The median of this many counts.
    workers
        The distributed engine is measured with 1 to this many compute workers.

    Returns
    -------
    dict
        ``rates`` in events/s, ``ratios`` to the bare chain of the same round, by name; ``spread``
        of the ratios (lowest, highest); and the conditions.
    """
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        recording = folder / "wafers.arrows"
        copies = max(1, round(total / events.events))
        _repeat(events, copies, recording)
        graph = load_graph("hgcal")
        batch = batch or graph.graph.batch_events
        graph = replace(graph, graph=replace(graph.graph, batch_events=batch))
        measures: dict[str, Measure] = {"bare": _bare(events["words"], batch, copies)}
        graph = replace(graph, source=Part("recording", "bench", {"path": str(recording)}))
        null = Part("null", "null", {})
        measures["inline"] = _engine(replace(graph, sink=null), "inline")
        kept = Part("recording", "kept", {**graph.sink.options, "path": str(folder / "k.arrows")})
        for count in range(1, workers + 1):
            crew = replace(graph.workers, compute=count)
            config = replace(graph, sink=kept, workers=crew)
            measures[f"distributed-{count}"] = _engine(config, "distributed")
        rounds = [{key: measure() for key, measure in measures.items()} for _ in range(repeats)]
    ratios = {key: [one[key] / one["bare"] for one in rounds] for key in measures}
    return {
        "rates": {key: statistics.median(one[key] for one in rounds) for key in measures},
        "ratios": {key: statistics.median(values) for key, values in ratios.items()},
        "spread": {key: [min(values), max(values)] for key, values in ratios.items()},
        "conditions": {
            "events": copies * events.events,
            "batch_events": batch,
            "repeats": repeats,
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.processor() or platform.machine(),
            "load_before": os.getloadavg()[0],
        },
    }


def _repeat(events: EventBatch, copies: int, path: Path) -> None:
    """Record the events `copies` times, with ids that never repeat."""
    schema = Schema((EVENT_ID, T_EVENT, WORDS))
    with RecordingWriter(path, schema, {"events": copies * events.events}) as writer:
        for copy in range(copies):
            ids = events["event_id"] + np.uint64(copy * events.events)
            writer.write(EventBatch({**events.columns, "event_id": ids}, events.events, copy))


def _bare(words: Array, batch: int, copies: int) -> Measure:
    """Return a measurement of the kernels and models alone, buffers allocated once."""
    encoder = open_session(find_model("wafer-encoder-9b"), "layers", "bench")
    tagger = open_session(find_model("wafer-tagger"), "layers", "bench")
    f32 = np.float32
    charge = np.empty((batch, wafer.CELLS), f32)
    image = np.empty((batch, *wafer.GRID), f32)
    total, status = np.empty(batch, f32), np.empty(batch, np.uint8)
    latent, latent_q = np.empty((batch, wafer.LATENTS), f32), np.empty((batch, wafer.LATENTS), f32)
    packed = np.empty((batch, wafer.packed_bytes(_BITS)), np.uint8)
    sum_q, score = np.empty(batch, f32), np.empty((batch, 3), f32)

    def chain(part: Array) -> None:
        n = len(part)
        wafer.unpack(part, charge[:n])
        wafer.normalise(charge[:n], image[:n], total[:n], status[:n])
        encoder.infer({"image": image[:n]}, {"latent": latent[:n]})
        wafer.quantise_pack(latent[:n], total[:n], _BITS, packed[:n], latent_q[:n], sum_q[:n])
        tagger.infer({"latent_q": latent_q[:n], "sum_q": sum_q[:n]}, {"score": score[:n]})

    def measure() -> float:
        chain(words[:batch])
        start = time.perf_counter()
        for _ in range(copies):
            for first in range(0, len(words), batch):
                chain(words[first : first + batch])
        return copies * len(words) / (time.perf_counter() - start)

    return measure


def _engine(config: GraphConfig, engine: str) -> Measure:
    """Return a measurement of a run: events over its wall time, start-up excluded."""

    def measure() -> float:
        report = execute(config, Wishes(run=0, engine=engine))
        check_report(report)
        rate: float = report["rate_hz"]
        return rate

    return measure
