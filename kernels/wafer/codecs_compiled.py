"""The front-end chip's classical codecs, encoded and decoded: compiled kernels.

All take the low bits that the chip drops before it codes charges as floats (`drop`: 3 in
high-density, 1 in low-density modules); a negative `drop` sends charges and sums uncoded, as
published comparisons do. Integer charges come back at the centre of their bin. Charges are finite
and not negative (the status of `wafer.normalise` marks those that are not).

References
----------
ECON-T: threshold sum, best choice, super trigger cell and repeater; CMS-TDR-019.
"""

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import device_function, input_array, kernel, output_array, scalar

_CELLS = 48
_CEILING = np.float32(1 << 40)

F32 = NDArray[np.float32]


@device_function
def _whole(charge: np.float32) -> int:
    return int(np.int64(min(charge, _CEILING)))


@device_function
def _coded(charge: np.float32, drop: int, exponents: int, mantissa: int) -> np.float32:
    """Return a charge as it comes back from a truncating float of `exponents` powers of two."""
    if drop < 0:
        return charge
    whole = _whole(charge) >> drop
    exponent = 0
    while (whole >> exponent) >> (mantissa + 1):
        exponent += 1
    # The first power of two has the numbers below 2**mantissa beside it, at the same spacing.
    if exponent + 1 >= exponents and whole >> mantissa:
        return _largest(drop, exponents, mantissa)
    lowest = (whole >> exponent) << (exponent + drop)
    if lowest == 0:
        return np.float32(0)
    return np.float32(lowest + 0.5 * ((1 << (exponent + drop)) - 1))


@device_function
def _largest(drop: int, exponents: int, mantissa: int) -> np.float32:
    shift = exponents - 2 + drop
    return np.float32((((2 << mantissa) - 1) << shift) + 0.5 * ((1 << shift) - 1))


@device_function
def _charge(charge: np.float32, drop: int) -> np.float32:
    return _coded(charge, drop, 16, 3)


@device_function
def _spread(charge: F32, kept: NDArray[np.bool_], drop: int, decoded: F32) -> None:
    """Share the sum of the cells that were not sent out among them."""
    rest, cells = 0.0, 0
    for k in range(_CELLS):
        if not kept[k]:
            cells += 1
            rest += np.float64(charge[k]) if drop < 0 else (_whole(charge[k]) >> drop) << drop
    each = _coded(np.float32(rest), drop, 32, 3) / np.float32(max(cells, 1))
    for k in range(_CELLS):
        if not kept[k]:
            decoded[k] = each


@device_function
def _check(charge: F32, decoded: F32) -> None:
    if charge.shape[1] != _CELLS or decoded.shape != charge.shape:
        raise ValueError("codecs: expected charge and decoded (N, 48)")


@device_function
def _threshold_bits(cells: int) -> int:
    # A word with the sum; then, unless none is sent, addresses (from 8 cells on a map) and charges.
    addresses = min(3 + 6 * cells, _CELLS) if cells > 0 else 0
    return 16 * (1 + (addresses + 7 * cells + 15) // 16) - 5


@kernel(
    (
        input_array("f4", 2),
        scalar("f4"),
        scalar("b1"),
        scalar("i8"),
        output_array("f4", 2),
        output_array("i8", 1),
    )
)
def threshold(
    charge: F32,
    level: float,
    spread: bool,
    drop: int,
    decoded: F32,
    bits: NDArray[np.int64],
) -> None:
    """Keep the cells at or above a level (threshold sum).

    Parameters
    ----------
    charge : float32 array, shape (N, 48)
        Transverse ADC counts.
    level : float
        Transverse ADC counts; `codecs.THRESHOLD_ADC` is usual.
    spread : bool
        Share the module sum, which is that of the other cells, out among them; else drop it.
    drop : int
        Low bits dropped from charges, not from the sum; negative sends both uncoded.
    decoded : float32 array, shape (N, 48)
        Output, transverse ADC counts.
    bits : int64 array, shape (N,)
        Output: bits sent, in whole words of 16, without the number of the bunch crossing.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    _check(charge, decoded)
    if bits.size != charge.shape[0]:
        raise ValueError("threshold: expected bits (N,)")
    kept = np.empty(_CELLS, np.bool_)
    for n in range(charge.shape[0]):
        cells = 0
        for k in range(_CELLS):
            kept[k] = charge[n, k] >= level
            cells += kept[k]
            decoded[n, k] = _charge(charge[n, k], drop) if kept[k] else np.float32(0)
        bits[n] = _threshold_bits(cells)
        if spread:
            _spread(charge[n], kept, min(drop, 0), decoded[n])


@kernel((input_array("f4", 2), scalar("i8"), scalar("b1"), scalar("i8"), output_array("f4", 2)))
def best_choice(charge: F32, cells: int, spread: bool, drop: int, decoded: F32) -> None:
    """Keep the largest cells; of equal ones, the one with the higher number.

    The chip's sorting network breaks ties otherwise; the charges kept are the same.

    Parameters
    ----------
    charge : float32 array, shape (N, 48)
        Transverse ADC counts.
    cells : int
        Number of cells to keep, 0 to 48; `codecs.BEST_CHOICE_CELLS` lists it by number of links.
    spread : bool
        Share the module sum, which is that of the other cells, out among them; else drop it.
    drop : int
        Low bits dropped from charges and summands; negative sends all uncoded.
    decoded : float32 array, shape (N, 48)
        Output, transverse ADC counts.

    Raises
    ------
    ValueError
        If the shapes do not fit or `cells` is out of range.
    """
    _check(charge, decoded)
    if not 0 <= cells <= _CELLS:
        raise ValueError("best_choice: cells must be 0 to 48")
    kept = np.empty(_CELLS, np.bool_)
    for n in range(charge.shape[0]):
        for k in range(_CELLS):
            mine = charge[n, k]
            before = 0
            for other in range(_CELLS):
                before += (charge[n, other] > mine) | ((charge[n, other] == mine) & (other > k))
            kept[k] = before < cells
            decoded[n, k] = _charge(mine, drop) if kept[k] else np.float32(0)
        if spread:
            _spread(charge[n], kept, drop, decoded[n])


@kernel(
    (input_array("f4", 2), input_array("i8", 2), scalar("b1"), scalar("i8"), output_array("f4", 2))
)
def super_trigger_cell(
    charge: F32, groups: NDArray[np.int64], spread: bool, drop: int, decoded: F32
) -> None:
    """Send the sum of each group of cells and which of them is the largest.

    Parameters
    ----------
    charge : float32 array, shape (N, 48)
        Transverse ADC counts.
    groups : int64 array, shape (G, S)
        Cells of each group, such as `codecs.GROUPS_OF_4`; every cell in one group.
    spread : bool
        Share the sum out among the group's cells; else put it on the largest, the last of equals.
    drop : int
        Coding of the sums: coded if 0 or more (no bits are dropped), uncoded if negative.
    decoded : float32 array, shape (N, 48)
        Output, transverse ADC counts.

    Raises
    ------
    ValueError
        If the shapes do not fit or a cell is out of range.
    """
    _check(charge, decoded)
    if groups.size != _CELLS or groups.min() < 0 or groups.max() >= _CELLS:
        raise ValueError("super_trigger_cell: expected groups (G, S) of all 48 cells")
    size = groups.shape[1]
    for n in range(charge.shape[0]):
        for g in range(groups.shape[0]):
            total, largest = 0.0, groups[g, 0]
            for k in groups[g]:
                total += np.float64(charge[n, k])
                largest = k if charge[n, k] >= charge[n, largest] else largest
            back = _coded(np.float32(total), min(drop, 0), 32, 4)
            for k in groups[g]:
                decoded[n, k] = back / np.float32(size) if spread else np.float32(0)
            if not spread:
                decoded[n, largest] = back


@kernel((input_array("f4", 2), scalar("i8"), output_array("f4", 2)))
def repeater(charge: F32, drop: int, decoded: F32) -> None:
    """Send every cell as a 7-bit float.

    Parameters
    ----------
    charge : float32 array, shape (N, 48)
        Transverse ADC counts.
    drop : int
        Low bits dropped from charges; negative sends them uncoded.
    decoded : float32 array, shape (N, 48)
        Output, transverse ADC counts.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    _check(charge, decoded)
    for n in range(charge.shape[0]):
        for k in range(_CELLS):
            decoded[n, k] = _charge(charge[n, k], drop)
