"""The front-end chip's classical codecs on a GPU.

Those that look at a whole wafer do so in shared memory; a block reads and writes 512 bytes a warp
in a row.
"""

from typing import Any

import numpy as np
from numba import cuda

from sluice.kernels.cuda import launch
from sluice.kernels.cuda.intrinsics import load4, store4, sum_of_16
from sluice.kernels.cuda.launch import DeviceArray, Stream

from .codec_best_choice import best_choice
from .codec_values import CELLS, coded, not_sent, share

__all__ = ["best_choice", "repeater", "super_trigger_cell", "threshold"]

_THREADS = launch.threads(128)
_WAFERS = _THREADS // 16
_NUMBERS = _WAFERS * CELLS
_TRAFFIC = launch.Traffic("wafer", 192, 192)


@launch.building_block
def _read(charge: Any, seen: Any, rows: Any) -> None:
    """Copy the charges of a block's wafers to shared memory; zero beyond the last wafer."""
    start = cuda.blockIdx.x * _NUMBERS
    for at in range(4 * cuda.threadIdx.x, _NUMBERS, 4 * _THREADS):
        a = b = c = d = np.float32(0)
        if start + at < CELLS * rows:
            a, b, c, d = load4(charge, start + at)
        seen[at], seen[at + 1], seen[at + 2], seen[at + 3] = a, b, c, d
    cuda.syncthreads()


@launch.building_block
def _write(seen: Any, decoded: Any, rows: Any) -> None:
    """Copy the decoded charges of a block's wafers from shared memory."""
    cuda.syncthreads()
    start = cuda.blockIdx.x * _NUMBERS
    for at in range(4 * cuda.threadIdx.x, _NUMBERS, 4 * _THREADS):
        if start + at < CELLS * rows:
            store4(decoded, start + at, seen[at], seen[at + 1], seen[at + 2], seen[at + 3])


@launch.building_block
def _decoded(charge: Any, kept: Any, drop: Any, other: Any) -> Any:
    return coded(charge, drop, 16, 3) if kept else other


@launch.building_block
def _threshold_bits(cells: Any) -> Any:
    addresses = min(3 + 6 * cells, CELLS) if cells > 0 else 0
    return 16 * (1 + (addresses + 7 * cells + 15) // 16) - 5


@launch.kernel(
    "f4[], f4, i4, i4, f4[], i8[], i8",
    threads=128,
    resident=16,
    traffic=launch.Traffic("wafer", 192, 200),
)
def _threshold(
    charge: Any, level: Any, spread: Any, drop: Any, decoded: Any, bits: Any, rows: Any
) -> None:
    seen = cuda.shared.array(_NUMBERS, np.float32)
    _read(charge, seen, rows)
    lane, wafer = cuda.threadIdx.x % 16, cuda.threadIdx.x // 16
    first = wafer * CELLS + lane
    a, b, c = seen[first], seen[first + 16], seen[first + 32]
    keep_a, keep_b, keep_c = a >= level, b >= level, c >= level
    cells = np.int64(sum_of_16(np.float64(np.int32(keep_a) + np.int32(keep_b) + np.int32(keep_c))))
    other = np.float32(0)
    if spread:
        low = min(drop, 0)
        rest = sum_of_16(
            not_sent(a, keep_a, low) + not_sent(b, keep_b, low) + not_sent(c, keep_c, low)
        )
        other = share(rest, low, CELLS - cells)
    seen[first] = _decoded(a, keep_a, drop, other)
    seen[first + 16] = _decoded(b, keep_b, drop, other)
    seen[first + 32] = _decoded(c, keep_c, drop, other)
    n = cuda.blockIdx.x * _WAFERS + wafer
    if lane == 0 and n < rows:
        bits[n] = _threshold_bits(cells)
    _write(seen, decoded, rows)


def threshold(
    charge: DeviceArray,
    level: float,
    spread: bool,
    drop: int,
    decoded: DeviceArray,
    bits: DeviceArray,
    *,
    stream: Stream = 0,
) -> None:
    """Keep the cells at or above a level, as `sluice.kernels.wafer.codecs.threshold` does.

    Half a warp takes a wafer, three cells a lane.
    """
    rows = launch.shape(charge)[0]
    given, made = _arrays("threshold", charge, decoded)
    sizes = launch.flat("threshold: bits", bits, "i8", (rows,))
    _threshold(-(-rows // _WAFERS), stream, given, level, spread, drop, made, sizes, rows)


@launch.kernel(
    "f4[], i8[], i4, i4, i4, f4[], i8",
    threads=128,
    resident=10,
    traffic=_TRAFFIC,
)
def _super_trigger_cell(
    charge: Any, groups: Any, size: Any, spread: Any, drop: Any, decoded: Any, rows: Any
) -> None:
    seen = cuda.shared.array(_NUMBERS, np.float32)
    _read(charge, seen, rows)
    count = CELLS // size
    for task in range(cuda.threadIdx.x, _WAFERS * count, _THREADS):
        # Each group belongs to one thread, which may overwrite its charges with the decoded ones.
        first, start = task // count * CELLS, task % count * size
        total, largest = 0.0, -1
        for at in range(start, start + size):
            cell = groups[at]
            if 0 <= cell < CELLS:
                total += np.float64(seen[first + cell])
                if largest < 0 or seen[first + cell] >= seen[first + largest]:
                    largest = cell
        back = coded(np.float32(total), min(drop, 0), 32, 4)
        each = np.float32(back / np.float32(size)) if spread else np.float32(0)
        for at in range(start, start + size):
            cell = groups[at]
            if 0 <= cell < CELLS:
                seen[first + cell] = back if not spread and cell == largest else each
    _write(seen, decoded, rows)


def super_trigger_cell(
    charge: DeviceArray,
    groups: DeviceArray,
    spread: bool,
    drop: int,
    decoded: DeviceArray,
    *,
    stream: Stream = 0,
) -> None:
    """Send the sum of each group of cells, as
    `sluice.kernels.wafer.codecs.super_trigger_cell` does.

    A thread takes a group. `groups` lies on the device and is not checked: a cell that is none is
    passed over, and of a cell in two groups the result is either's.
    """
    sizes = launch.shape(groups)
    if len(sizes) != 2 or sizes[0] * sizes[1] != CELLS:
        raise ValueError("super_trigger_cell: expected groups (G, S) of all 48 cells")
    rows = launch.shape(charge)[0]
    given, made = _arrays("super_trigger_cell", charge, decoded)
    cells = launch.flat("super_trigger_cell: groups", groups, "i8", sizes)
    _super_trigger_cell(
        -(-rows // _WAFERS), stream, given, cells, sizes[1], spread, drop, made, rows
    )


@launch.kernel(
    "f4[], i4, f4[], i8",
    threads=256,
    resident=8,
    traffic=_TRAFFIC,
)
def _repeater(charge: Any, drop: Any, decoded: Any, count: Any) -> None:
    at = 4 * cuda.grid(1)
    if at < count:
        a, b, c, d = load4(charge, at)
        a, b = coded(a, drop, 16, 3), coded(b, drop, 16, 3)
        c, d = coded(c, drop, 16, 3), coded(d, drop, 16, 3)
        store4(decoded, at, a, b, c, d)


def repeater(charge: DeviceArray, drop: int, decoded: DeviceArray, *, stream: Stream = 0) -> None:
    """Send every cell as a 7-bit float, as `sluice.kernels.wafer.codecs.repeater` does.

    A thread takes four cells: a warp reads and writes 512 bytes in a row.
    """
    count = CELLS * launch.shape(charge)[0]
    given, made = _arrays("repeater", charge, decoded)
    _repeater(-(-count // (4 * launch.threads(256))), stream, given, drop, made, count)


def _arrays(
    codec: str, charge: DeviceArray, decoded: DeviceArray
) -> tuple[DeviceArray, DeviceArray]:
    rows = launch.shape(charge)[0]
    return (
        launch.flat(f"{codec}: charge", charge, "f4", (rows, CELLS)),
        launch.flat(f"{codec}: decoded", decoded, "f4", (rows, CELLS)),
    )
