"""The image that a wafer encoder reads: normalised by a power of two, arranged 8x8."""

import math

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import device_function, input_array, kernel, output_array

from .simd import any_negative_cell, arrange_cells, sum_of_cells

OK = 0
"""Status of a wafer that can be encoded."""
NOT_FINITE = 1
"""Status of a wafer with a NaN or an infinite charge, or a sum beyond 2**127."""
NEGATIVE = 2
"""Status of a wafer with a negative charge."""

_LARGEST = math.ldexp(1.0, 127)
_SMALLEST = math.ldexp(1.0, -126)


@device_function
def _toward_zero(total: float) -> np.float32:
    # The chip's sum is an integer that float32 may round up into the next code; truncation cannot.
    rounded = np.float32(total)
    if np.float64(rounded) > total:
        rounded = np.uint32(rounded.view(np.uint32) - np.uint32(1)).view(np.float32)
    return rounded


@device_function
def _blank(image: NDArray[np.float32], n: int) -> None:
    for r in range(8):
        for j in range(8):
            image[n, r, j] = np.float32(0)


@kernel((input_array("f4", 2), output_array("f4", 3), output_array("f4", 1), output_array("u1", 1)))
def normalise(
    charge: NDArray[np.float32],
    image: NDArray[np.float32],
    charge_sum: NDArray[np.float32],
    status: NDArray[np.uint8],
) -> int:
    """Normalise and arrange the charges of N wafers for the encoder.

    Each wafer is divided by 2**floor(log2(sum)), which is exact, so its image sums to between 1 and
    2. A bad wafer gets an image of zeros and a sum of 0; so does an all-zero wafer (or one whose
    sum lies below 2**-126), with status `OK`.

    Parameters
    ----------
    charge : float32 array, shape (N, 48)
        Transverse ADC counts.
    image : float32 array, shape (N, 8, 8)
        Output, dimensionless; positions outside `MASK_8X8` are 0.
    charge_sum : float32 array, shape (N,)
        Output, transverse ADC counts; summed in float64, truncated toward zero.
    status : uint8 array, shape (N,)
        Output: `OK`, `NOT_FINITE` or `NEGATIVE`; the former of the two where both hold.

    Returns
    -------
    int
        Number of wafers whose status is not `OK`.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    ECON-T autoencoder, steps "normalise" and "arrange"; arXiv:2105.01683.
    """
    rows = charge.shape[0]
    if charge.shape[1] != 48 or image.shape != (rows, 8, 8):
        raise ValueError("normalise: expected charge (N, 48) and image (N, 8, 8)")
    if charge_sum.shape[0] != rows or status.shape[0] != rows:
        raise ValueError("normalise: expected charge_sum (N,) and status (N,)")
    bad = 0
    cells, pixels = charge.reshape(charge.size), image.reshape(image.size)
    for n in range(rows):
        at = np.int64(48 * n)
        total = sum_of_cells(cells, at)
        status[n] = OK
        # One NaN or infinite cell makes the sum so; written with `not`, the comparison catches NaN
        # too.
        if not abs(total) < _LARGEST:
            status[n] = NOT_FINITE
        elif any_negative_cell(cells, at):
            status[n] = NEGATIVE
        if status[n] != OK or total < _SMALLEST:
            bad += status[n] != OK
            charge_sum[n] = np.float32(0)
            _blank(image, n)
            continue
        charge_sum[n] = _toward_zero(total)
        exponent = np.float64(total).view(np.int64) >> 52
        scale = np.float32(np.int64((2046 - exponent) << 52).view(np.float64))
        arrange_cells(cells, at, scale, pixels, np.int64(64 * n))
    return bad
