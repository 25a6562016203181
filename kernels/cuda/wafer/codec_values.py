"""Building blocks of the classical codecs on a GPU: charges and sums as truncating floats."""

from typing import Any

import numpy as np

from sluice.kernels.cuda import launch
from sluice.kernels.cuda.intrinsics import bits_of_double

CELLS = 48
_CEILING = np.float32(1 << 40)


@launch.building_block
def whole(charge: Any) -> Any:
    """Return a charge without its fraction."""
    return np.int64(charge if charge < _CEILING else _CEILING)


@launch.building_block
def coded(charge: Any, drop: Any, exponents: Any, mantissa: Any) -> Any:
    """Return a charge as it comes back from a truncating float of `exponents` powers of two."""
    if drop < 0:
        return charge
    kept = whole(charge) >> drop
    # The exponent of a float64 is the place of the highest bit; 0 is treated as 1.
    top = (bits_of_double(np.float64(max(kept, 1))) >> 52) - 1023
    exponent = max(top - mantissa, 0)
    # The first power of two has the numbers below 2**mantissa beside it, at the same spacing.
    if exponent + 1 >= exponents and kept >> mantissa:
        shift = exponents - 2 + drop
        lowest = ((2 << mantissa) - 1) << shift
    else:
        shift = exponent + drop
        lowest = (kept >> exponent) << shift
    if lowest == 0:
        return np.float32(0)
    return np.float32(np.float64(lowest) + 0.5 * np.float64((1 << shift) - 1))


@launch.building_block
def not_sent(charge: Any, kept: Any, drop: Any) -> Any:
    """Return the contribution of a cell to the sum of the cells that are not sent."""
    if kept:
        return 0.0
    return np.float64(charge) if drop < 0 else np.float64((whole(charge) >> drop) << drop)


@launch.building_block
def share(rest: Any, drop: Any, cells: Any) -> Any:
    """Return the share of each cell that is not sent in their sum."""
    return np.float32(coded(np.float32(rest), drop, 32, 3) / np.float32(cells if cells > 0 else 1))
