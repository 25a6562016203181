"""The front-end chip's classical codecs, and the number of bits that each sends.

Bits are those of the link's frames without the number of the bunch crossing and without padding to
whole links, as for `wafer.packed_bits`.
"""

import numpy as np

from .codecs_compiled import best_choice, repeater, super_trigger_cell, threshold
from .geometry import ADC_PER_MIPT, CELLS

__all__ = [
    "BEST_CHOICE_CELLS",
    "GROUPS_OF_4",
    "GROUPS_OF_16",
    "REPEATER_BITS",
    "THRESHOLD_ADC",
    "best_choice",
    "best_choice_bits",
    "repeater",
    "super_trigger_cell",
    "super_trigger_cell_bits",
    "threshold",
]

THRESHOLD_ADC = 1.35 * ADC_PER_MIPT
"""Usual level of the threshold codec, transverse ADC counts."""
BEST_CHOICE_CELLS = (1, 4, 6, 9, 14, 18, 23, 28, 32, 37, 41, 46, 48)
"""Cells that best choice sends on 1 to 13 links."""
REPEATER_BITS = 7 * CELLS
"""Bits of a wafer of which every cell is sent."""

_CORNERS = np.array([0, 2, 8, 10])
_BLOCK = np.array([0, 1, 4, 5])
GROUPS_OF_4 = (np.arange(0, CELLS, 16)[:, None, None] + _CORNERS[:, None] + _BLOCK).reshape(12, 4)
"""Cells of each super trigger cell of 4, neighbours 2 by 2, int64 (12, 4)."""
GROUPS_OF_16 = np.arange(CELLS).reshape(3, 16)
"""Cells of each super trigger cell of 16, int64 (3, 16)."""
GROUPS_OF_4.flags.writeable = False
GROUPS_OF_16.flags.writeable = False


def best_choice_bits(cells: int) -> int:
    """Return the bits of a wafer of which the largest `cells` cells are sent.

    Beside 7 bits a charge: the sum of the others (8 bits), and an address each (6 bits) or, from 8
    cells on, a map of all 48.
    """
    return 8 + 7 * cells + (6 * cells if cells < 8 else CELLS)


def super_trigger_cell_bits(size: int) -> int:
    """Return the bits of a wafer in groups of `size` cells: a 9-bit sum and an address each."""
    return CELLS // size * (9 + (size - 1).bit_length())
