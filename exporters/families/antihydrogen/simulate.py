"""Simulated annihilations as strip bits. Needs only NumPy and numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.antihydrogen.strips import BYTES, STRIPS, pack_strips

from . import detector

#: Time between two annihilations, ns: far longer than in a trap.
SPACING_NS = 1_000_000

#: The toy, tuned to the published coverage and to the real events' clusters.
TUNED = {
    detector.WALL_RADIUS: 40.0,
    detector.CLOUD: 11.5,
    detector.Z_MEAN: 92.0,
    detector.Z_SPREAD: 20.0,
    detector.FIELD: 1.7,  # T
    detector.PIPE_RADIUS: 45.0,
    detector.THICKNESS: 0.04,  # radiation lengths
    detector.LAYER_THICKNESS: 0.01,
    detector.EFFICIENCY: 0.96,
    detector.VIEW_EFFICIENCY: 0.99,
    detector.GAP: 2.9,
    detector.DIFFUSION: -0.3,  # strips; below 0, the ends stay below threshold
    detector.TAIL: 0.14,
    detector.NOISE: 0.08,
    detector.PHOTONS: 4.0,
    detector.CONVERSION: 0.1,
    detector.P_SCALE: 0.12,
    detector.P_MIN: 0.05,
}


def toy_constants(constants: dict[int, float]) -> NDArray[np.float64]:
    """Return constants of the toy as the kernels take them."""
    return np.array([constants[k] for k in range(detector.CONSTANTS)])


def strips(
    events: int, seed: int, first: int = 0, toy: dict[int, float] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Simulate annihilations before the read-out.

    Parameters
    ----------
    events
        Number of events.
    seed
        Key of the random streams; an event depends on this and on its number alone.
    first
        Number of the first event.
    toy
        Constants that differ from `TUNED`.

    Returns
    -------
    truth
        (N,) u8, index into `LABELS`.
    bits
        (N, 1430) u8, 1 where a strip has fired.
    """
    truth, bits = np.empty(events, np.uint8), np.empty((events, STRIPS), np.uint8)
    constants = {**TUNED, **(toy or {})}
    none = np.empty((events, 0, detector.COLUMNS))
    detector.simulate_annihilations(seed, first, toy_constants(constants), truth, bits, none)
    return truth, bits


def simulate(
    events: int, seed: int, first: int = 0, toy: dict[int, float] | None = None
) -> dict[str, NDArray[Any]]:
    """Simulate annihilations as columns of an event batch.

    Parameters
    ----------
    events, seed, first, toy
        Number of events, key of the random streams, first event, and constants of the toy.

    Returns
    -------
    dict
        ``event_id`` (N,) u64; ``t_event`` (N,) i64 ns; ``truth`` (N,) u8, index into `LABELS`;
        ``strips`` (N, 179) u8, the strip bits.
    """
    truth, bits = strips(events, seed, first, toy)
    number = np.arange(first, first + events, dtype=np.uint64)
    packed = np.empty((events, BYTES), np.uint8)
    pack_strips(bits, packed)
    return {
        "event_id": number,
        "t_event": number.astype(np.int64) * SPACING_NS,
        "truth": truth,
        "strips": packed,
    }
