"""Simulated wafers: showers and pile-up on 48 trigger cells, as the front-end chip sees them.

Whole wafers only: those that the detector's edge cuts are not simulated. Needs only NumPy and
numba, so that a machine that runs the pipeline can make its own input.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.wafer import pack_words
from sluice.kernels.wafer.geometry import CELL_X, CELL_Y, CELLS, WORDS

from .showers import fill

CROSSING_NS = 25
ORBIT = 3564  # bunch crossings

# Points of the raster per unit length: a tenth of the distance between neighbouring cells.
_RASTER = 5.0
_REACH = 1.2  # a point farther than this from every cell's centre is off the wafer


@cache
def _raster() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    x, y = np.asarray(CELL_X, np.float64), np.asarray(CELL_Y, np.float64)
    low_x, low_y = x.min() - _REACH, y.min() - _REACH
    columns = np.arange(low_x, x.max() + _REACH, 1.0 / _RASTER) + 0.5 / _RASTER
    rows = np.arange(low_y, y.max() + _REACH, 1.0 / _RASTER) + 0.5 / _RASTER
    distance = np.hypot(columns[:, None, None] - x, rows[None, :, None] - y)
    grid = np.where(distance.min(-1) <= _REACH, distance.argmin(-1), -1)
    return grid, np.array([low_x, low_y, _RASTER, x.mean(), y.mean()])


def charges(events: int, seed: int, first: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Simulate wafers before the chip.

    Parameters
    ----------
    events
        Number of wafers.
    seed
        Key of the random streams; an event depends on this and on its number alone.
    first
        Number of the first event.

    Returns
    -------
    truth
        (N,) u8, index into `LABELS`.
    charge
        (N, 48) u32, transverse charge, ADC counts (35 counts = 1 MIP_T), zero-suppressed.
    """
    truth = np.empty(events, np.uint8)
    charge = np.empty((events, CELLS), np.uint32)
    grid, frame = _raster()
    fill(seed, first, grid, frame, truth, charge)
    return truth, charge


def simulate(events: int, seed: int, first: int = 0) -> dict[str, NDArray[np.generic]]:
    """Simulate wafers as columns of an event batch.

    Parameters
    ----------
    events, seed, first
        Number of wafers, key of the random streams, and number of the first wafer.

    Returns
    -------
    dict
        ``event_id`` (N,) u64; ``t_event`` (N,) i64 ns, one event a bunch crossing; ``truth``
        (N,) u8, index into `LABELS`; ``words`` (N, 12) u32, the chip's input words.
    """
    truth, charge = charges(events, seed, first)
    number = np.arange(first, first + events, dtype=np.uint64)
    return {
        "event_id": number,
        "t_event": number.astype(np.int64) * CROSSING_NS,
        "truth": truth,
        "words": words(number, charge),
    }


def words(number: NDArray[np.integer], charge: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Pack (N, 48) charges into (N, 12) input words; `number` (N,) counts bunch crossings."""
    header = np.where(number % ORBIT == 0, 0x9, 0xA).astype(np.uint8)
    packed = np.empty((len(charge), WORDS), np.uint32)
    pack_words(charge, header, packed)
    return packed
