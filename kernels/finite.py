"""Search for NaN and infinity in arrays of numbers."""

from typing import Any

from numpy.typing import NDArray

from sluice.kernels.compiler.jit import input_array, kernel

_BLOCK = 4096


@kernel((input_array("f4", 1),), (input_array("f8", 1),))
def all_finite(values: NDArray[Any]) -> bool:
    """Say whether all numbers of an array are finite.

    Parameters
    ----------
    values : float32 or float64 array, shape (N,)

    Returns
    -------
    bool
        False if there is a NaN or an infinity.
    """
    for start in range(0, values.size, _BLOCK):
        wrong = 0
        for i in range(start, min(start + _BLOCK, values.size)):
            # The difference is NaN for NaN and infinity. A sum of a block is vectorised.
            wrong += values[i] - values[i] != 0
        if wrong:
            return False
    return True
