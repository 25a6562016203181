"""The image of a wafer encoder on a GPU: normalised by a power of two, arranged 8x8."""

from typing import Any

import numpy as np
from numba import cuda

from sluice.kernels.cuda import launch
from sluice.kernels.cuda.intrinsics import (
    any_of_16,
    bits_of,
    bits_of_double,
    double_of,
    float_of,
    store4,
    sum_of_16,
)
from sluice.kernels.cuda.launch import WARP, DeviceArray, Stream
from sluice.kernels.wafer.image import NEGATIVE, NOT_FINITE, OK

_THREADS = launch.threads(256)
_PASSES = 4
# Wafers per block; a warp processes two in each pass.
_WAFERS = _THREADS // WARP * 2 * _PASSES
_LARGEST = 2.0**127
_SMALLEST = 2.0**-126


@launch.building_block
def _toward_zero(total: Any) -> Any:
    rounded = np.float32(total)
    if np.float64(rounded) > total:
        rounded = float_of(np.uint32(bits_of(rounded) - np.uint32(1)))
    return rounded


@launch.building_block
def _status(total: Any, negative: Any) -> Any:
    if not abs(total) < _LARGEST:
        return NOT_FINITE
    return NEGATIVE if negative else OK


@launch.building_block
def _scale(total: Any) -> Any:
    """Return the power of two that makes `total` 1 to 2."""
    exponent = bits_of_double(total) >> 52
    return np.float32(double_of((2046 - exponent) << 52))


@launch.building_block
def _first_cell(row: Any, right: Any) -> Any:
    """Return the first of four neighbours of an image row, and the step to the next."""
    if row >= 4:
        return 51 - row, -4
    return (row, 4) if right else (28 - 4 * row, 1)


@launch.kernel(
    "f4[], f4[], f4[], u1[], i8",
    threads=256,
    resident=6,
    traffic=launch.Traffic("wafer", 192, 261),
)
def _normalise(charge: Any, image: Any, charge_sum: Any, status: Any, rows: Any) -> None:
    warp = cuda.grid(1) // WARP
    lane, half = cuda.laneid % 16, cuda.laneid // 16
    row, right = lane // 2, lane % 2 == 1
    first, step = _first_cell(row, right)
    kept_sum, kept_status = np.float32(0), OK
    for turn in range(_PASSES):
        n = 2 * (_PASSES * warp + turn) + half
        at = 48 * min(n, rows - 1)
        a, b, c = charge[at + lane], charge[at + lane + 16], charge[at + lane + 32]
        # The CPU's order of additions, so that the sums are the same to the last bit.
        total = sum_of_16((np.float64(a) + np.float64(b)) + np.float64(c))
        found = _status(total, any_of_16((a < 0) | (b < 0) | (c < 0)))
        scale = np.float32(0)
        rounded = np.float32(0)
        if found == OK and total >= _SMALLEST:
            scale, rounded = _scale(total), _toward_zero(total)
        if lane == turn:
            kept_sum, kept_status = rounded, found
        if n < rows:
            pixels = 64 * n + 4 * lane
            if row >= 4 and right:
                scale = np.float32(0)
            if scale > 0:
                at += first
                store4(
                    image,
                    pixels,
                    np.float32(charge[at] * scale),
                    np.float32(charge[at + step] * scale),
                    np.float32(charge[at + 2 * step] * scale),
                    np.float32(charge[at + 3 * step] * scale),
                )
            else:
                store4(image, pixels, scale, scale, scale, scale)
    n = 2 * (_PASSES * warp + lane) + half
    if lane < _PASSES and n < rows:
        charge_sum[n] = kept_sum
        status[n] = kept_status


def normalise(
    charge: DeviceArray,
    image: DeviceArray,
    charge_sum: DeviceArray,
    status: DeviceArray,
    *,
    stream: Stream = 0,
) -> None:
    """Normalise and arrange the charges of N wafers, as `sluice.kernels.wafer.normalise` does.

    But it returns nothing: how many wafers are bad says `status`, on the device.

    Half a warp takes a wafer, four in turn. Its lanes read 64 bytes in a row three times for the
    sum, then the same 192 bytes again from the cache in the image's order, and write 16 bytes each,
    256 in a row. Sums and statuses of a warp's eight wafers are written at once.

    Parameters
    ----------
    charge : float32 device array, shape (N, 48)
        Transverse ADC counts.
    image : float32 device array, shape (N, 8, 8)
        Output, dimensionless.
    charge_sum : float32 device array, shape (N,)
        Output, transverse ADC counts.
    status : uint8 device array, shape (N,)
        Output: `OK`, `NOT_FINITE` or `NEGATIVE`.
    stream : stream
        CUDA stream: an object of numba, or the stream's address.
    """
    rows = launch.shape(charge)[0]
    _normalise(
        -(-rows // _WAFERS),
        stream,
        launch.flat("normalise: charge", charge, "f4", (rows, 48)),
        launch.flat("normalise: image", image, "f4", (rows, 8, 8)),
        launch.flat("normalise: charge_sum", charge_sum, "f4", (rows,)),
        launch.flat("normalise: status", status, "u1", (rows,)),
        rows,
    )
