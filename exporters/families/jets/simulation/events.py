"""Blocks of simulated jets as events: the candidates of one jet each, both classes mixed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.exporters.families.base import Events
from sluice.exporters.families.jets import BLOCK, data
from sluice.pipeline.core.ragged import Ragged

from .jets import jets

#: Time between events on the detector's clock, ns.
PERIOD_NS = 10_000


def block(events: int, seed: int, first: int) -> Events:
    """Simulate the first `events` of the block that begins with event `first`.

    Half of them are QCD, the others a resonance, whose mass changes from block to block.

    Returns
    -------
    dict
        ``event_id`` (N,) u64; ``t_event`` (N,) i64 ns; ``truth`` (N,) u8, 1 for a resonance of
        mass ``resonance`` (N,) f32, GeV; candidates ``pt`` (GeV), ``eta``, ``phi``, ragged f32.
    """
    chunks = data.block(first // BLOCK, BLOCK // 2)
    sizes = (events - events // 2, events // 2)
    parts = [
        jets(chunk.sample, size, chunk.seed(seed))
        for chunk, size in zip(chunks, sizes, strict=True)
        if size
    ]
    order = np.random.default_rng((seed, first)).permutation(events)
    truth = np.repeat(np.array([0, 1], np.uint8), sizes)[order]
    number = np.arange(first, first + events, dtype=np.uint64)
    return {
        "event_id": number,
        "t_event": number.astype(np.int64) * PERIOD_NS,
        "truth": truth,
        "resonance": truth * np.float32(chunks[1].sample.mass),
        **{name: _lists(parts, name, order) for name in ("pt", "eta", "phi")},
    }


def _lists(parts: list[dict[str, NDArray[Any]]], name: str, order: NDArray[np.int64]) -> Ragged:
    values = np.concatenate([part[name] for part in parts])
    counts = np.concatenate([np.diff(part["offsets"]) for part in parts])
    return Ragged.from_counts(values, counts).take(order)
