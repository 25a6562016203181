"""Where the 48 trigger cells of a wafer lie, and how they are laid out as an image.

All arrays are read-only. Lengths are in units of 1.20840075 of the original coordinates, so that
neighbouring cells lie 1.8 to 2.0 apart.

References
----------
Coordinates, 8x8 arrangement and mask: "A reconfigurable neural network ASIC for detector front-end
data compression at the HL-LHC", arXiv:2105.01683, and the encoder software that goes with it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CELLS = 48
"""Trigger cells of a wafer."""
WORDS = 12
"""32-bit words of a wafer on the input links, four cells each."""
LATENTS = 16
"""Latent numbers of a wafer encoder."""
GRID = (8, 8)
"""Rows and columns of the encoder's image."""
ADC_PER_MIPT = 35
"""Transverse ADC counts of one transverse minimum-ionising particle."""

_UNIT = 1.20840075
# fmt: off
_X = (
    0.0, 0.0, 0.0, 0.0, 2.09301, 2.09301, 2.09301, 2.09301,
    4.18602, 4.18602, 4.18602, 4.18602, 6.27903, 6.27903, 6.27903, 6.27903,
    -8.37204, -6.27903, -4.18602, -2.0930138, -8.37204, -6.27903, -4.18602, -2.0930138,
    -8.37204, -6.27903, -4.18602, -2.0930138, -8.37204, -6.27903, -4.18602, -2.0930138,
    4.7092705, 2.6162605, 0.5232506, -1.5697594, 2.6162605, 0.5232506, -1.5697594, -3.6627693,
    0.5232506, -1.5697594, -3.6627693, -5.7557793, -1.5697594, -3.6627693, -5.7557793, -7.848793,
)
_Y = (
    0.0, -2.4168015, -4.833603, -7.2504044, -1.2083969, -3.6251984, -6.042, -8.458794,
    -2.4168015, -4.833603, -7.2504044, -9.667198, -3.6251984, -6.042, -8.458794, -10.875603,
    -10.271393, -9.063004, -7.854599, -6.6461945, -7.854599, -6.6461945, -5.4377975, -4.229393,
    -5.4377975, -4.229393, -3.020996, -1.8125992, -3.020996, -1.8125992, -0.6042023, 0.6042023,
    -12.386101, -11.177696, -9.969299, -8.760895, -13.594498, -12.386101, -11.177696, -9.969299,
    -14.802895, -13.594498, -12.386101, -11.177696, -16.0113, -14.802895, -13.594498, -12.386101,
)
_ARRANGE = (
    28, 29, 30, 31, 0, 4, 8, 12,
    24, 25, 26, 27, 1, 5, 9, 13,
    20, 21, 22, 23, 2, 6, 10, 14,
    16, 17, 18, 19, 3, 7, 11, 15,
    47, 43, 39, 35, 35, 34, 33, 32,
    46, 42, 38, 34, 39, 38, 37, 36,
    45, 41, 37, 33, 43, 42, 41, 40,
    44, 40, 36, 32, 47, 46, 45, 44,
)
# fmt: on


def _constant(values: Any, dtype: type) -> NDArray[Any]:
    array: NDArray[Any] = np.array(values, dtype=dtype)
    array.flags.writeable = False
    return array


CELL_X: NDArray[np.float64] = _constant(np.array(_X) / _UNIT, np.float64)
"""Horizontal position of each cell, float64 (48,)."""
CELL_Y: NDArray[np.float64] = _constant(np.array(_Y) / _UNIT, np.float64)
"""Vertical position of each cell, float64 (48,)."""
DISTANCE: NDArray[np.float64] = _constant(
    np.hypot(np.subtract.outer(CELL_X, CELL_X), np.subtract.outer(CELL_Y, CELL_Y)), np.float64
)
"""Ground distance of the Earth mover's distance between cells, float64 (48, 48)."""

ARRANGE_8X8: NDArray[np.int64] = _constant(_ARRANGE, np.int64).reshape(GRID)
"""Cell shown at each image position, int64 (8, 8); masked positions name a cell but show 0."""
MASK_8X8: NDArray[np.bool_] = _constant(
    np.add.outer(np.arange(8) // 4, np.arange(8) // 4) < 2, np.bool_
)
"""Image positions that show a cell, bool (8, 8): all but the lower right quarter."""
REMAP_8X8: NDArray[np.int64] = _constant(
    np.flatnonzero(MASK_8X8)[np.argsort(ARRANGE_8X8[MASK_8X8])], np.int64
)
"""Flat image position of each cell, int64 (48,): the inverse of `ARRANGE_8X8`."""
