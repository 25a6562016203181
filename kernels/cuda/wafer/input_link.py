"""The wafer's input link on a GPU: twelve 32-bit words to 48 charges."""

from typing import Any

import numpy as np
from numba import cuda

from sluice.kernels.cuda import launch
from sluice.kernels.cuda.intrinsics import float_of, store4
from sluice.kernels.cuda.launch import DeviceArray, Stream

_THREADS = launch.threads(256)
_EXPONENT_BIAS = np.uint32((132 << 23) | (1 << 19))


@launch.building_block
def _cell(word: Any, shift: Any) -> Any:
    # As on the CPU: a code is the top of a float32 pattern, and the lowest eight borrow.
    code = np.uint32((word >> np.uint32(shift)) & np.uint32(127))
    small = code < np.uint32(8)
    shifted = np.uint32(code + np.uint32(8)) if small else code
    borrowed = np.float32(64) if small else np.float32(0)
    return np.float32(float_of(np.uint32(shifted << np.uint32(20)) + _EXPONENT_BIAS) - borrowed)


@launch.kernel(
    "u4[], f4[], i8",
    threads=256,
    resident=8,
    traffic=launch.Traffic("wafer", 48, 192),
)
def _unpack(words: Any, charge: Any, count: Any) -> None:
    at = cuda.grid(1)
    if at < count:
        word = words[at]
        store4(charge, 4 * at, _cell(word, 21), _cell(word, 14), _cell(word, 7), _cell(word, 0))


def unpack(words: DeviceArray, charge: DeviceArray, *, stream: Stream = 0) -> None:
    """Decode the input words of N wafers into cell charges, as `sluice.kernels.wafer.unpack` does.

    A thread takes one word and writes its four charges at once: a warp reads 128 bytes and writes
    512, both in a row.

    Parameters
    ----------
    words : uint32 device array, shape (N, 12)
    charge : float32 device array, shape (N, 48)
        Output, transverse ADC counts.
    stream : stream
        CUDA stream: an object of numba, or the stream's address.
    """
    rows = launch.shape(words)[0]
    _unpack(
        -(-12 * rows // _THREADS),
        stream,
        launch.flat("unpack: words", words, "u4", (rows, 12)),
        launch.flat("unpack: charge", charge, "f4", (rows, 48)),
        12 * rows,
    )
