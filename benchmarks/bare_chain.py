"""The bare chains: kernels and models of a graph in a tight loop, on arrays in memory."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from sluice.kernels import wafer
from sluice.kernels.hashing import salt, sample_mask
from sluice.kernels.menu import decide
from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import Array
from sluice.pipeline.inference.repository import find_model
from sluice.pipeline.inference.session import Session, open_session

BITS = 9
Measure = Callable[[], float]


def bare_chain(events: EventBatch, graph: GraphConfig, batch: int, copies: int) -> Measure:
    """Return a measurement of a wafer graph's computations, without the pipeline.

    Parameters
    ----------
    events
        Wafers with `words`.
    graph
        ``hgcal`` or one without its tagger and menu; names the backends of the models.
    batch
        Events a batch.
    copies
        How often all events are computed; so much memory is taken.
    """
    chain = _Compression(graph, batch)
    steps: list[Callable[[Array, Array], None]] = [chain]
    if any(part.use == "menu" for part in graph.stages):
        steps.append(_Decision(graph, batch, chain))
    # As long as the recording: a short array would lie in a cache, as new events never do.
    words, ids = np.tile(events["words"], (copies, 1)), np.tile(events["event_id"], copies)

    def compute(start: int, stop: int) -> None:
        for first in range(start, stop, batch):
            for step in steps:
                step(words[first : min(first + batch, stop)], ids[first : min(first + batch, stop)])

    def measure() -> float:
        compute(0, events.events)
        start = time.perf_counter()
        compute(0, len(words))
        return len(words) / (time.perf_counter() - start)

    return measure


class _Compression:
    """Words to packed latents; buffers allocated once."""

    def __init__(self, graph: GraphConfig, batch: int) -> None:
        f32 = np.float32
        self._encode = _session(graph, "encode")
        self._charge = np.empty((batch, wafer.CELLS), f32)
        self._image = np.empty((batch, *wafer.GRID), f32)
        self._total, self._status = np.empty(batch, f32), np.empty(batch, np.uint8)
        self._latent = np.empty((batch, wafer.LATENTS), f32)
        self._packed = np.empty((batch, wafer.packed_bytes(BITS)), np.uint8)
        self.latent_q, self.sum_q = np.empty((batch, wafer.LATENTS), f32), np.empty(batch, f32)

    def __call__(self, words: Array, _: Array) -> None:
        n = len(words)
        wafer.unpack(words, self._charge[:n])
        wafer.normalise(self._charge[:n], self._image[:n], self._total[:n], self._status[:n])
        self._encode.infer({"image": self._image[:n]}, {"latent": self._latent[:n]})
        wafer.quantise_pack(
            self._latent[:n], self._total[:n], BITS, self._packed[:n], self.latent_q[:n],
            self.sum_q[:n],
        )  # fmt: skip


class _Decision:
    """Latents to decisions by three paths and pass-through."""

    def __init__(self, graph: GraphConfig, batch: int, compression: _Compression) -> None:
        self._tag = _session(graph, "tag")
        self._from = compression
        self._score = np.empty((batch, 3), np.float32)
        self._passed, self._unscaled = np.ones((2, 4, batch), np.bool_)
        self._bits = np.array([0, 1, 2, 63], np.uint64)
        self._before, self._outcome = np.zeros((2, batch), np.uint8)
        self._decision = np.empty(batch, np.uint64)
        self._salt = salt("bench")

    def __call__(self, words: Array, ids: Array) -> None:
        n = len(words)
        score = self._score[:n]
        latents = {"latent_q": self._from.latent_q[:n], "sum_q": self._from.sum_q[:n]}
        self._tag.infer(latents, {"score": score})
        # The decision's masks are (paths, events) without gaps: only a whole batch uses them as is.
        passed, unscaled = self._passed, self._unscaled
        if n < passed.shape[1]:
            passed, unscaled = np.ones((2, 4, n), np.bool_)
        for line, threshold in enumerate((0.9, 0.9, 0.5)):
            np.greater(score[:, line], np.float32(threshold), out=passed[line])
        for line, fraction in ((2, 0.01), (3, 0.001)):
            sample_mask(ids, self._salt, fraction, unscaled[line])
        passed[3] = unscaled[3]
        decide(
            passed, unscaled, self._bits, self._before[:n], self._decision[:n], self._outcome[:n]
        )


def _session(graph: GraphConfig, stage: str) -> Session:
    options = next(part.options for part in graph.stages if part.name == stage)
    return open_session(find_model(options["model"]), options["backend"], "bench")
