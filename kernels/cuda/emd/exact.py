"""The exact Earth mover's distance on a GPU: one warp a pair.

Mass that both distributions have stays in place, as on the CPU; what is left becomes whole numbers
in float64, so that sources and sinks are used up exactly, and is moved by `shortest_paths`.
"""

from typing import Any

import numpy as np
from numba import cuda

from sluice.kernels.cuda import launch
from sluice.kernels.cuda.intrinsics import (
    ballot,
    bits_of_double,
    double_of,
    lowest_bit,
    min_of_warp,
    sum_of_warp,
    sync_warp,
)
from sluice.kernels.cuda.launch import WARP, DeviceArray, Kernel, Stream
from sluice.kernels.emd.network_simplex import MAX_CELLS

from .shortest_paths import Network, send

__all__ = ["emd", "emd_pairs"]

_EQUAL_TOTALS = 1e-9
_NO_MASS = 1e-240
# With less, the scale to whole numbers would leave the range of float64.
_NOTHING = 2.0**-960
_ONE = np.uint64(1)


@launch.building_block
def _mass(masses: Any, at: Any) -> Any:
    """Return a mass; NaN if it is negative."""
    mass = np.float64(masses[at])
    return mass if mass >= 0.0 else np.nan


@launch.building_block
def _units(p: Any, q: Any, start: Any, cells: Any, lane: Any, normalised: Any) -> Any:
    """Return the divisors of the masses of p and of q; NaN where the distance is undefined."""
    total_p, total_q = 0.0, 0.0
    for at in range(start + lane, start + cells, WARP):
        total_p += _mass(p, at)
        total_q += _mass(q, at)
    total_p, total_q = sum_of_warp(total_p), sum_of_warp(total_q)
    if normalised:
        fine = 0.0 < total_p < np.inf and 0.0 < total_q < np.inf
    else:
        # Written so that NaN and infinity fail.
        equal = abs(total_p - total_q) <= _EQUAL_TOTALS * min(total_p, total_q)
        fine = equal and total_p > _NO_MASS
        total_p, total_q = 1.0, 1.0
    return (total_p, total_q) if fine else (np.nan, np.nan)


@launch.building_block
def _excess(p: Any, q: Any, at: Any, end: Any, unit_p: Any, unit_q: Any) -> Any:
    """Return the mass of a cell in p less that in q; 0 beyond the last cell."""
    if at >= end:
        return 0.0
    return np.float64(p[at]) / unit_p - np.float64(q[at]) / unit_q


@launch.building_block
def _whole(number: Any) -> Any:
    return np.float64(np.int64(number + 0.5 if number >= 0.0 else number - 0.5))


@launch.building_block
def _balanced(a: Any, b: Any, lane: Any) -> Any:
    """Return both integer masses of each lane; the largest is adjusted so that all sum to 0."""
    balance = sum_of_warp(a + b)
    _, owner = min_of_warp(-max(abs(a), abs(b)))
    if lane == owner:
        if abs(a) >= abs(b):
            a -= balance
        else:
            b -= balance
    return a, b


@launch.building_block
def _place(mass: Any, is_row: Any, cell: Any, rows: Any, columns: Any, s: Network) -> None:
    """Give a cell its row or column: its number among the `rows` or `columns` before it."""
    if mass != 0.0 and is_row:
        s.cell[rows], s.left[rows], s.price[rows] = cell, abs(mass), 0.0
    elif mass != 0.0:
        s.column_cell[columns], s.capacity[columns], s.fed_by[columns] = cell, abs(mass), 0


@launch.building_block
def _count(bits: Any) -> Any:
    return np.int64(cuda.popc(np.uint32(bits)))


@launch.building_block
def _number(a: Any, b: Any, lane: Any, s: Network) -> Any:
    """Set rows and columns; return their numbers, and whether rows are sources."""
    more_a, more_b = np.uint32(ballot(a > 0.0)), np.uint32(ballot(b > 0.0))
    less_a, less_b = np.uint32(ballot(a < 0.0)), np.uint32(ballot(b < 0.0))
    sources, sinks = _count(more_a) + _count(more_b), _count(less_a) + _count(less_b)
    upright = sources >= sinks
    if not upright:
        more_a, more_b, less_a, less_b = less_a, less_b, more_a, more_b
    before = np.uint32((_ONE << np.uint64(lane)) - _ONE)
    _place(a, (a > 0.0) == upright, lane, _count(more_a & before), _count(less_a & before), s)
    rows, columns = _count(more_a), _count(less_a)
    rows, columns = rows + _count(more_b & before), columns + _count(less_b & before)
    _place(b, (b > 0.0) == upright, lane + WARP, rows, columns, s)
    rows, columns = max(sources, sinks), min(sources, sinks)
    for at in range(lane, rows * columns, WARP):
        s.flow[at] = 0.0
    sync_warp()
    return rows, columns, upright


@launch.building_block
def _cost(columns: Any, lane: Any, along: Any, across: Any, distance: Any, s: Network) -> Any:
    """Return the sum over all flows of mass times distance."""
    total = 0.0
    if lane < columns:
        rows, at = s.fed_by[lane], s.column_cell[lane] * across
        while rows != 0:
            i = lowest_bit(rows)
            rows &= rows - _ONE
            total += s.flow[i * columns + lane] * distance[s.cell[i] * along + at]
    return sum_of_warp(total)


@launch.building_block
def _network(a: Any, b: Any, lane: Any, s: Network) -> Any:
    """Set rows and columns from the surplus or deficit of each lane's two cells.

    Return their numbers, whether rows are sources, and the mass that one unit stands for.
    """
    more = sum_of_warp(max(a, 0.0) + max(b, 0.0))
    less = sum_of_warp(max(-a, 0.0) + max(-b, 0.0))
    if not (more > _NOTHING and less > 0.0):
        return 0, 0, True, 0.0 * (a + b)
    # The totals differ by rounding; sharing that out makes them meet.
    share = less / more
    scale = double_of((2097 - (bits_of_double(more) >> 52)) << 52)
    a = _whole((a if a > 0.0 else a / share) * scale)
    b = _whole((b if b > 0.0 else b / share) * scale)
    a, b = _balanced(a, b, lane)
    rows, columns, upright = _number(a, b, lane, s)
    # Neither of the two totals is preferred.
    return rows, columns, upright, (0.5 + 0.5 * share) / scale


def _pair(p: Any, q: Any, distance: Any, out: Any, cells: Any, normalised: Any) -> None:
    s = Network(
        cuda.shared.array(1024, np.float64),
        cuda.shared.array(MAX_CELLS, np.float64),
        cuda.shared.array(MAX_CELLS, np.int32),
        cuda.shared.array(MAX_CELLS, np.float64),
        cuda.shared.array(MAX_CELLS, np.float64),
        cuda.shared.array(MAX_CELLS, np.int32),
        cuda.shared.array(WARP, np.float64),
        cuda.shared.array(WARP, np.int32),
        cuda.shared.array(WARP, np.int32),
        cuda.shared.array(WARP, np.uint64),
    )
    lane, pair = cuda.threadIdx.x, cuda.blockIdx.x
    start = pair * cells
    unit_p, unit_q = _units(p, q, start, cells, lane, normalised)
    a = _excess(p, q, start + lane, start + cells, unit_p, unit_q)
    b = _excess(p, q, start + lane + WARP, start + cells, unit_p, unit_q)
    rows, columns, upright, mass = _network(a, b, lane, s)
    along, across = (cells, 1) if upright else (1, cells)
    if not send(rows, columns, lane, along, across, distance, s):
        mass = np.nan
    found = _cost(columns, lane, along, across, distance, s) * mass
    if lane == 0:
        out[pair] = found


def _for(name: str, dtype: str, traffic: launch.Traffic) -> Kernel:
    return Kernel(_pair, f"{dtype}[], {dtype}[], f8[], f8[], i4, i4", WARP, 16, traffic, name)


_of_masses = _for("emd", "f8", launch.Traffic("pair of 48 cells", 768, 8))
_of_charges = _for("emd_pairs", "f4", launch.Traffic("pair of 48 cells", 384, 8))


def emd(
    p: DeviceArray, q: DeviceArray, distance: DeviceArray, out: DeviceArray, *, stream: Stream = 0
) -> None:
    """Find the exact Earth mover's distances of N pairs, as `sluice.kernels.emd.exact.emd` does.

    A warp takes a pair: it reads the masses in a row, 256 bytes at a time, and the distances, which
    all pairs share, from the cache. Its network of at most 64 cells lies in shared memory.

    Parameters
    ----------
    p, q : float64 device array, shape (N, K)
        Masses, in any unit; the totals of a pair are equal, up to a part in 10**9.
    distance : float64 device array, shape (K, K)
        Ground distance, at most 64 cells; a metric, which is not checked here.
    out : float64 device array, shape (N,)
        Output: mass times distance. NaN where a mass is negative or not finite, where there is none
        (less than 1e-240), where the totals differ, or where distances are no finite numbers.
    stream : stream
        CUDA stream: an object of numba, or the stream's address.
    """
    _launch(_of_masses, "emd", "f8", p, q, distance, out, False, stream)


def emd_pairs(
    p: DeviceArray, q: DeviceArray, distance: DeviceArray, out: DeviceArray, *, stream: Stream = 0
) -> None:
    """Find the exact Earth mover's distances of N pairs of wafers, each divided by its total.

    Gives what `sluice.kernels.emd.exact.emd_pairs` gives for float32 charges; NaN also where a
    total is infinite.

    Parameters
    ----------
    p, q : float32 device array, shape (N, K)
        Masses, such as charges in transverse ADC counts.
    distance, out, stream
        The other arguments of `emd`; `out` is in units of distance.
    """
    _launch(_of_charges, "emd_pairs", "f4", p, q, distance, out, True, stream)


def _launch(
    kernel: Kernel,
    name: str,
    dtype: str,
    p: DeviceArray,
    q: DeviceArray,
    distance: DeviceArray,
    out: DeviceArray,
    normalised: bool,
    stream: Stream,
) -> None:
    pairs, cells = launch.shape(p)
    if not 1 <= cells <= MAX_CELLS:
        raise ValueError(f"{name}: expected a distance (K, K) of 1 to 64 cells")
    kernel(
        pairs,
        stream,
        launch.flat(f"{name}: p", p, dtype, (pairs, cells)),
        launch.flat(f"{name}: q", q, dtype, (pairs, cells)),
        launch.flat(f"{name}: distance", distance, "f8", (cells, cells)),
        launch.flat(f"{name}: out", out, "f8", (pairs,)),
        cells,
        normalised,
    )
