"""Lists of varying length on a GPU: padded to one length for a net."""

from typing import Any

import numpy as np
from numba import cuda

from . import launch
from .launch import WARP, DeviceArray, Kernel, Stream

__all__ = ["pad"]

_LISTS = launch.threads(128) // WARP


def _pad(
    values: Any,
    offsets: Any,
    rows: Any,
    filler: Any,
    out: Any,
    lengths: Any,
    size: Any,
    width: Any,
) -> None:
    # Sizes are in units: bytes, or words of four where items are whole words.
    i = cuda.blockIdx.x * _LISTS + cuda.threadIdx.x // WARP
    lane = cuda.threadIdx.x % WARP
    if i >= rows.size:
        return
    row = rows[i]
    start, count = np.int64(0), np.int64(-1)
    if 0 <= row < offsets.size - 1:
        start = offsets[row]
        count = min(offsets[row + 1] - start, width // size)
        if start < 0 or count < 0 or (start + count) * size > values.size:
            count = np.int64(-1)
    used = max(count, 0) * size
    for at in range(lane, width, WARP):
        out[i * width + at] = values[start * size + at] if at < used else filler[at % size]
    if lane == 0:
        lengths[i] = count


_LISTS_OF = launch.Traffic("list of 7 float32, 64 of 128 there", 64 * 28 + 24, 128 * 28 + 8)


def _for(name: str, dtype: str) -> Kernel:
    arguments = f"{dtype}[], i8[], i8[], {dtype}[], {dtype}[], i8[], i8, i8"
    return Kernel(_pad, arguments, 128, 12, _LISTS_OF, name)


_pad_bytes, _pad_words = _for("pad, bytes", "u1"), _for("pad, words", "u4")


def pad(
    values: DeviceArray,
    offsets: DeviceArray,
    rows: DeviceArray,
    filler: DeviceArray,
    out: DeviceArray,
    lengths: DeviceArray,
    *,
    stream: Stream = 0,
) -> None:
    """Make some lists equally long, as `sluice.kernels.ragged.pad` does.

    But where the CPU's raises, a row or an offset out of range, the length is -1 and the list is
    filled up from the start.

    A warp takes a list. It reads the items in a row and writes 128 bytes in a row where items are
    words of four bytes, else 32.

    Parameters
    ----------
    values : uint8 device array, shape (M * item_bytes,)
        The items.
    offsets : int64 device array, shape (N + 1,)
        Index of the first item of each list, then the end of the last one.
    rows : int64 device array, shape (R,)
        The lists wanted.
    filler : uint8 device array, shape (item_bytes,)
        An item to fill up with; at least one byte.
    out : uint8 device array, shape (R, K * item_bytes)
        Output: the first K items of each list.
    lengths : int64 device array, shape (R,)
        Output: number of items before the filling; -1 where a row or its offsets are invalid.
    stream : stream
        CUDA stream: an object of numba, or the stream's address.
    """
    (many,), (size,), (wide, width) = launch.shape(rows), launch.shape(filler), launch.shape(out)
    if size == 0 or wide != many or width % size:
        raise ValueError("pad: expected rows (R,), out (R, K * item_bytes) and lengths (R,)")
    step = 1 if size % 4 or launch.shape(values)[0] % 4 else 4
    dtype, kernel = ("u1", _pad_bytes) if step == 1 else ("u4", _pad_words)
    kernel(
        -(-many // _LISTS),
        stream,
        launch.flat("pad: values", values, "u1", launch.shape(values), dtype),
        launch.flat("pad: offsets", offsets, "i8", launch.shape(offsets)),
        launch.flat("pad: rows", rows, "i8", (many,)),
        launch.flat("pad: filler", filler, "u1", (size,), dtype),
        launch.flat("pad: out", out, "u1", (many, width), dtype),
        launch.flat("pad: lengths", lengths, "i8", (many,)),
        size // step,
        width // step,
    )
