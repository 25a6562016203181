"""Best choice on a GPU: the largest cells of a wafer, a thread each wafer."""

from typing import Any

import numpy as np
from numba import cuda

from sluice.kernels.cuda import launch
from sluice.kernels.cuda.intrinsics import load4, nth_of_48, store4
from sluice.kernels.cuda.launch import DeviceArray, Stream

from .codec_values import CELLS, coded, not_sent, share

# Odd, so that the threads of a warp read from different banks of shared memory.
_STRIDE = CELLS + 1
_THREADS = launch.threads(64)
_NUMBERS, _PADDED_NUMBERS = _THREADS * CELLS, _THREADS * _STRIDE
_ONE = np.uint64(1)


@launch.building_block
def _chosen(seen: Any, first: Any, cells: Any) -> Any:
    """Return the cells that are kept, a bit each."""
    chosen = np.uint64(0)
    if cells == 0:
        return chosen
    smallest = nth_of_48(seen, first, CELLS - cells)
    left = cells
    for k in range(CELLS):
        left -= np.int32(seen[first + k] > smallest)
    # Of the cells that equal the smallest, the last ones are kept.
    for place in range(CELLS):
        k = CELLS - 1 - place
        charge = seen[first + k]
        equal = charge == smallest and left > 0
        left -= np.int32(equal)
        if charge > smallest or equal:
            chosen |= _ONE << np.uint64(k)
    return chosen


@launch.building_block
def _replace(seen: Any, first: Any, chosen: Any, cells: Any, spread: Any, drop: Any) -> None:
    """Overwrite a wafer's charges with the decoded ones."""
    rest = 0.0
    if spread:
        # In the CPU's order, so that the sum is the same to the last bit.
        for k in range(CELLS):
            rest += not_sent(seen[first + k], (chosen >> np.uint64(k)) & _ONE != 0, drop)
    other = share(rest, drop, CELLS - cells)
    for k in range(CELLS):
        kept = (chosen >> np.uint64(k)) & _ONE != 0
        seen[first + k] = coded(seen[first + k], drop, 16, 3) if kept else other


@launch.kernel(
    "f4[], i4, i4, i4, f4[], i8",
    threads=64,
    resident=14,
    traffic=launch.Traffic("wafer", 192, 192),
)
def _best_choice(charge: Any, cells: Any, spread: Any, drop: Any, decoded: Any, rows: Any) -> None:
    seen = cuda.shared.array(_PADDED_NUMBERS, np.float32)
    start, end = cuda.blockIdx.x * _NUMBERS, CELLS * rows
    for at in range(4 * cuda.threadIdx.x, min(_NUMBERS, end - start), 4 * _THREADS):
        to = at // CELLS * _STRIDE + at % CELLS
        seen[to], seen[to + 1], seen[to + 2], seen[to + 3] = load4(charge, start + at)
    cuda.syncthreads()
    if cuda.grid(1) < rows:
        first = cuda.threadIdx.x * _STRIDE
        _replace(seen, first, _chosen(seen, first, cells), cells, spread, drop)
    cuda.syncthreads()
    for at in range(4 * cuda.threadIdx.x, min(_NUMBERS, end - start), 4 * _THREADS):
        to = at // CELLS * _STRIDE + at % CELLS
        store4(decoded, start + at, seen[to], seen[to + 1], seen[to + 2], seen[to + 3])


def best_choice(
    charge: DeviceArray,
    cells: int,
    spread: bool,
    drop: int,
    decoded: DeviceArray,
    *,
    stream: Stream = 0,
) -> None:
    """Keep the largest cells, as `sluice.kernels.wafer.codecs.best_choice` does.

    A thread takes a wafer, which it sorts in registers, without a branch. The block reads and
    writes 512 bytes a warp in a row, by way of shared memory.
    """
    if not 0 <= cells <= CELLS:
        raise ValueError("best_choice: cells must be 0 to 48")
    rows = launch.shape(charge)[0]
    _best_choice(
        -(-rows // _THREADS),
        stream,
        launch.flat("best_choice: charge", charge, "f4", (rows, CELLS)),
        cells,
        spread,
        drop,
        launch.flat("best_choice: decoded", decoded, "f4", (rows, CELLS)),
        rows,
    )
