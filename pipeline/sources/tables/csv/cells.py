"""Numbers in the cells of a CSV file."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa

from sluice.pipeline.core.ragged import offsets_of
from sluice.pipeline.core.schema import Array

_NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE
)
_HEXADECIMAL = re.compile(r"(0[xX])?[0-9a-fA-F]{1,16}")
_LIST = re.compile(r"[\[({](?P<items>[^\[\](){}]*)[\])}]")
_SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")
_INTEGERS = (pa.int64(), pa.uint64())
_TRUTH = {"true": "1", "false": "0"}


def looks_like(cell: str) -> str:
    """Return what a cell holds: number, list or text.

    Examples
    --------
    >>> looks_like("1e-3"), looks_like("[1, 2]"), looks_like("run7")
    ('number', 'list', 'text')
    """
    if _NUMBER.fullmatch(cell) or cell.lower() in _TRUTH:
        return "number"
    return "list" if _LIST.fullmatch(cell) else "text"


def numbers_in(
    cells: list[str], dtype: str, *, hexadecimal: bool = False
) -> tuple[Array, dict[int, str]]:
    """Return the numbers of cells, and why the others have none.

    Parameters
    ----------
    cells
        Text of each cell.
    dtype
        Dtype to read: int64, uint64 or float64.
    hexadecimal
        Whether the cells are hexadecimal words.

    Returns
    -------
    tuple
        The numbers, (cells,) of `dtype`, 0 for a cell without; and the index of each of these to
        the reason.
    """
    text = [f"0x{cell}" for cell in cells] if hexadecimal else cells
    kind = pa.uint64() if hexadecimal else pa.type_for_alias(dtype)
    try:
        if kind in _INTEGERS and not hexadecimal and "x" in "".join(cells).lower():
            raise pa.ArrowInvalid("Arrow takes 0x10 for an integer")
        found: Array = pa.array(text, pa.string()).cast(kind).to_numpy()
        return found.astype(dtype, copy=False), {}
    except (pa.ArrowInvalid, UnicodeError):  # at least one is no number, or written otherwise
        return _one_by_one(cells, dtype, hexadecimal=hexadecimal)


def _one_by_one(cells: list[str], dtype: str, *, hexadecimal: bool) -> tuple[Array, dict[int, str]]:
    values, reasons = np.zeros(len(cells), dtype), {}
    for row, cell in enumerate(cells):
        try:
            values[row] = _parse(cell.strip(), dtype, hexadecimal=hexadecimal)
        except (ValueError, OverflowError):
            reasons[row] = f"expected {_wanted(dtype, hexadecimal=hexadecimal)}, got {cell[:80]!r}"
    return values, reasons


def _parse(cell: str, dtype: str, *, hexadecimal: bool) -> int | float:
    """Return the number of one cell; ValueError or OverflowError if it has none."""
    cell = _TRUTH.get(cell.lower(), cell)
    if not (_HEXADECIMAL if hexadecimal else _NUMBER).fullmatch(cell):
        raise ValueError(cell)
    if hexadecimal:
        return int(cell, 16)
    return float(cell) if dtype == "float64" else int(cell)


def _wanted(dtype: str, *, hexadecimal: bool) -> str:
    if hexadecimal:
        return "a hexadecimal word"
    return {"float64": "a number", "uint64": "a whole number from 0"}.get(dtype, "a whole number")


def lists_in(cells: list[str], dtype: str) -> tuple[Array, Array, dict[int, str]]:
    """Return the numbers of cells with lists, such as ``[1, 2]``, ``1;2`` or ``[1 2]``.

    Returns
    -------
    tuple
        The numbers of all lists, (items,); the offsets of the lists, (cells + 1,); and the index of
        each cell without a list to the reason.
    """
    items = [_items(cell.strip()) for cell in cells]
    reasons = {row: f"expected a list, got {cells[row][:80]!r}"
               for row, found in enumerate(items) if found is None}  # fmt: skip
    offsets = offsets_of([len(found or ()) for found in items])
    values, bad = numbers_in([item for found in items for item in found or ()], dtype)
    rows = np.searchsorted(offsets, list(bad), "right") - 1
    reasons |= dict(zip(rows.tolist(), bad.values(), strict=True))
    return values, offsets, reasons


def _items(cell: str) -> list[str] | None:
    """Return the texts of a list's items; None if the cell is empty or has lists in lists.

    A separator behind the last item is none; between others an item is missing, and its text empty.
    """
    match = _LIST.fullmatch(cell)
    text = match["items"].strip() if match else cell
    if not match and (not cell or set("[](){}") & set(cell)):
        return None
    items = _SEPARATOR.split(text)
    return items if items[-1] else items[:-1]
