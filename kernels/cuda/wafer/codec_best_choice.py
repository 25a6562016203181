"""Best choice on a GPU: the largest cells of a wafer, a thread each wafer."""

from typing import Any

import numpy as np
from numba import cuda

from sluice.kernels.cuda.intrinsics import load4, nth_of_48, store4
from sluice.kernels.cuda.launch import (
    DeviceArray,
    Stream,
    Traffic,
    array,
    building_block,
    flat,
    kernel,
    shape,
    threads,
    value,
)

from .codec_values import coded, not_sent, share

_CELLS = 48
# Odd, so that the threads of a warp read from different banks of shared memory.
_STRIDE = _CELLS + 1
_THREADS = threads(64)
_NUMBERS, _PADDED_NUMBERS = _THREADS * _CELLS, _THREADS * _STRIDE
_ONE = np.uint64(1)


@building_block
def _chosen(seen: Any, first: Any, cells: Any) -> Any:
    """Return the cells that are kept, a bit each."""
    chosen = np.uint64(0)
    if cells == 0:
        return chosen
    smallest = nth_of_48(seen, first, _CELLS - cells)
    left = cells
    for k in range(_CELLS):
        left -= np.int32(seen[first + k] > smallest)
    # Of the cells that equal the smallest, the last ones are kept.
    for place in range(_CELLS):
        k = _CELLS - 1 - place
        charge = seen[first + k]
        equal = charge == smallest and left > 0
        left -= np.int32(equal)
        if charge > smallest or equal:
            chosen |= _ONE << np.uint64(k)
    return chosen


@building_block
def _replace(seen: Any, first: Any, chosen: Any, cells: Any, spread: Any, drop: Any) -> None:
    """Overwrite a wafer's charges with the decoded ones."""
    rest = 0.0
    if spread:
        # In the CPU's order, so that the sum is the same to the last bit.
        for k in range(_CELLS):
            rest += not_sent(seen[first + k], (chosen >> np.uint64(k)) & _ONE != 0, drop)
    other = share(rest, drop, _CELLS - cells)
    for k in range(_CELLS):
        kept = (chosen >> np.uint64(k)) & _ONE != 0
        seen[first + k] = coded(seen[first + k], drop, 16, 3) if kept else other


@kernel(
    *(array("f4"), value("i4"), value("i4"), value("i4"), array("f4"), value("i8")),
    threads=64,
    resident=14,
    traffic=Traffic("wafer", 192, 192),
)
def _best_choice(charge: Any, cells: Any, spread: Any, drop: Any, decoded: Any, rows: Any) -> None:
    seen = cuda.shared.array(_PADDED_NUMBERS, np.float32)
    start, end = cuda.blockIdx.x * _NUMBERS, _CELLS * rows
    for at in range(4 * cuda.threadIdx.x, min(_NUMBERS, end - start), 4 * _THREADS):
        to = at // _CELLS * _STRIDE + at % _CELLS
        seen[to], seen[to + 1], seen[to + 2], seen[to + 3] = load4(charge, start + at)
    cuda.syncthreads()
    if cuda.grid(1) < rows:
        first = cuda.threadIdx.x * _STRIDE
        _replace(seen, first, _chosen(seen, first, cells), cells, spread, drop)
    cuda.syncthreads()
    for at in range(4 * cuda.threadIdx.x, min(_NUMBERS, end - start), 4 * _THREADS):
        to = at // _CELLS * _STRIDE + at % _CELLS
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
    if not 0 <= cells <= _CELLS:
        raise ValueError("best_choice: cells must be 0 to 48")
    rows = shape(charge)[0]
    _best_choice(
        -(-rows // _THREADS),
        stream,
        flat("best_choice: charge", charge, "f4", (rows, _CELLS)),
        cells,
        spread,
        drop,
        flat("best_choice: decoded", decoded, "f4", (rows, _CELLS)),
        rows,
    )
