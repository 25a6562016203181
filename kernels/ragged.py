"""Lists of varying length: their items one after another, and where each list begins.

Items are copied as bytes, whatever they are: one machine code for all dtypes and item shapes.
"""

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import input_array, kernel, output_array, scalar


@kernel((input_array("i8", 1), scalar("i8")))
def first_invalid_row(offsets: NDArray[np.int64], items: int) -> int:
    """Find the first invalid list: one that ends before it begins, or beyond the items.

    Parameters
    ----------
    offsets : int64 array, shape (N + 1,)
        Index of the first item of each list, then the end of the last one.
    items : int
        Number of items.

    Returns
    -------
    int
        Row of the first invalid list; -1 if all are valid.
    """
    if offsets.size and offsets[0] < 0:
        return 0
    for row in range(offsets.size - 1):
        if offsets[row + 1] < offsets[row] or offsets[row + 1] > items:
            return row
    return -1


@kernel(
    (
        input_array("u1", 1),
        input_array("i8", 1),
        scalar("i8"),
        input_array("i8", 1),
        input_array("i8", 1),
        output_array("u1", 1),
    )
)
def gather(
    values: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    item_bytes: int,
    rows: NDArray[np.int64],
    places: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> None:
    """Copy some lists, one after another.

    Parameters
    ----------
    values : uint8 array, shape (M * item_bytes,)
        The items.
    offsets : int64 array, shape (N + 1,)
        Index of the first item of each list, then the end of the last one.
    item_bytes : int
        Bytes of an item.
    rows : int64 array, shape (R,)
        The lists wanted.
    places : int64 array, shape (R + 1,)
        Index in `out` of the first item of each list, then the end of the last one.
    out : uint8 array, shape (places[R] * item_bytes,)
        Output.

    Raises
    ------
    ValueError
        If a row or an offset is out of range, or `places` contradicts the lengths of the lists.
    """
    if places.size != rows.size + 1 or places[0] != 0:
        raise ValueError("gather: expected rows (R,) and places (R + 1,) from 0")
    if places[rows.size] * item_bytes != out.size:
        raise ValueError("gather: expected out of places[R] items")
    for i in range(rows.size):
        row = rows[i]
        if row < 0 or row >= offsets.size - 1:
            raise ValueError("gather: expected rows of the lists")
        start, stop = offsets[row] * item_bytes, offsets[row + 1] * item_bytes
        at = places[i] * item_bytes
        if start < 0 or stop > values.size or places[i + 1] * item_bytes - at != stop - start:
            raise ValueError("gather: expected sound offsets, and places that follow from them")
        out[at : at + stop - start] = values[start:stop]


@kernel(
    (
        input_array("u1", 1),
        input_array("i8", 1),
        input_array("i8", 1),
        input_array("u1", 1),
        output_array("u1", 2),
        output_array("i8", 1),
    )
)
def pad(
    values: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
    filler: NDArray[np.uint8],
    out: NDArray[np.uint8],
    lengths: NDArray[np.int64],
) -> None:
    """Make some lists equally long: truncated, or filled up.

    Parameters
    ----------
    values : uint8 array, shape (M * item_bytes,)
        The items.
    offsets : int64 array, shape (N + 1,)
        Index of the first item of each list, then the end of the last one.
    rows : int64 array, shape (R,)
        The lists wanted.
    filler : uint8 array, shape (item_bytes,)
        An item to fill up with.
    out : uint8 array, shape (R, K * item_bytes)
        Output: the first K items of each list.
    lengths : int64 array, shape (R,)
        Output: number of items before the filling.

    Raises
    ------
    ValueError
        If a row or an offset is out of range, or shapes do not fit.
    """
    size = filler.size
    if out.shape[0] != rows.size or lengths.size != rows.size or out.shape[1] % max(1, size):
        raise ValueError("pad: expected rows (R,), out (R, K * item_bytes) and lengths (R,)")
    max_items = out.shape[1] // max(1, size)
    for i in range(rows.size):
        row = rows[i]
        if row < 0 or row >= offsets.size - 1:
            raise ValueError("pad: expected rows of the lists")
        start, count = offsets[row], min(offsets[row + 1] - offsets[row], max_items)
        if start < 0 or count < 0 or (start + count) * size > values.size:
            raise ValueError("pad: expected sound offsets")
        used = count * size
        out[i, :used] = values[start * size : start * size + used]
        for place in range(used, out.shape[1], size):
            out[i, place : place + size] = filler
        lengths[i] = count
