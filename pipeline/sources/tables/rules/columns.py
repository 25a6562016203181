"""Conversion of a table's fields to columns of events: cast, join, pad, truncate, reject."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import Array

from .casts import cast_values
from .field import FieldValues, ValuesByField
from .mapping import ColumnFill


class FilledColumn(Struct):
    """A filled column, and its rejected events: row to reason and raw bytes."""

    values: Array | Ragged
    refused: dict[int, tuple[str, bytes]]


def fill_column(fill: ColumnFill, parts: ValuesByField, events: int) -> FilledColumn:
    """Return the column of `events` events; rejected rows hold zeros, or no items.

    Any number fits a float column; an integer column takes the values in its range. Lists must have
    the length of the column's item, unless the mapping pads or truncates them.
    """
    column = fill.column
    if column.ragged:
        return _fill_lists(fill, parts, events)
    size = math.prod(column.item_shape)
    share = size // len(fill.fields)
    flat = np.zeros((events, size), column.dtype)
    refused: dict[int, tuple[str, bytes]] = {}
    for place, field in enumerate(fill.fields):
        lists = _as_lists(parts[field], events)
        cast, reasons = _cast(lists, fill)
        reasons |= _scatter(cast, lists, flat[:, place * share : (place + 1) * share], fill)
        reasons |= {row: f"expected a value, got {lists.null_name}" for row in _rows(lists.nulls)}
        _refuse(refused, reasons, field.name, lists)
    flat[list(refused)] = 0
    return FilledColumn(flat.reshape(events, *column.item_shape), refused)


class _Lists(Struct):
    """Field values with items of fixed size as lists of that size."""

    values: Array
    offsets: Array
    nulls: Array | None
    null_name: str


def _as_lists(part: FieldValues, events: int) -> _Lists:
    width = math.prod(part.values.shape[1:])
    offsets = part.offsets if part.offsets is not None else np.arange(events + 1)
    return _Lists(part.values.reshape(-1), offsets * width, part.nulls, part.null_name)


def _refuse(
    refused: dict[int, tuple[str, bytes]], reasons: dict[int, str], name: str, lists: _Lists
) -> None:
    """Add the rows with a reason to those refused; the first reason of a row is kept."""
    for row, reason in reasons.items():
        raw = lists.values[lists.offsets[row] : lists.offsets[row + 1]].tobytes()
        refused.setdefault(row, (f"{name}: {reason}", raw))


def _fill_lists(fill: ColumnFill, parts: ValuesByField, events: int) -> FilledColumn:
    """Return a ragged column: lists of one field, or of several fields joined item by item."""
    column = fill.column
    width = math.prod(column.item_shape) // len(fill.fields)
    found = [_as_lists(parts[field], events) for field in fill.fields]
    counts = [np.diff(lists.offsets) // max(1, width) for lists in found]
    refused: dict[int, tuple[str, bytes]] = {}
    casts = []
    for field, lists, count in zip(fill.fields, found, counts, strict=True):
        cast, reasons = _cast(lists, fill)
        whole, partial = _whole_items(cast, lists, width)
        casts.append(whole)
        reasons |= _too_many(count, fill) | partial
        for row in _rows(count != counts[0]):
            other = f"as many items as {fill.fields[0].name}, {counts[0][row]}"
            reasons[row] = f"expected {other}, got {count[row]}"
        reasons |= {row: f"expected a list, got {lists.null_name}" for row in _rows(lists.nulls)}
        _refuse(refused, reasons, field.name, lists)
    taken = np.minimum(counts[0], column.item_limit)
    taken[list(refused)] = 0
    items = np.empty((int(taken.sum()), width * len(found)), column.dtype)
    for place, (cast, count) in enumerate(zip(casts, counts, strict=True)):
        kept = cast if (count == taken).all() else cast[_first(count, taken)]
        items[:, place * width : (place + 1) * width] = kept
    return FilledColumn(Ragged.from_counts(items.reshape(-1, *column.item_shape), taken), refused)


def _whole_items(values: Array, lists: _Lists, width: int) -> tuple[Array, dict[int, str]]:
    """Return the whole items of lists, (items, width), and the rows with a part of one."""
    sizes = np.diff(lists.offsets)
    partial = _rows(sizes % width)
    if partial:
        values = values[_first(sizes, sizes // width * width)]
    reasons = {row: f"expected {width} numbers for each item, got {sizes[row]}" for row in partial}
    return values.reshape(-1, width), reasons


def _too_many(counts: Array, fill: ColumnFill) -> dict[int, str]:
    max_items = fill.column.item_limit
    if fill.cut:
        return {}
    return {row: f"expected at most {max_items} items, got {counts[row]}"
            for row in _rows(counts > max_items)}  # fmt: skip


def _first(counts: Array, taken: Array) -> Array:
    """Return the indices of the first `taken` items of each list in `values`."""
    starts = np.cumsum(counts) - counts
    places = np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
    found: Array = np.repeat(starts, taken) + places
    return found


def _rows(mask: Array | None) -> list[int]:
    return [] if mask is None else np.flatnonzero(mask).tolist()


def _cast(lists: _Lists, fill: ColumnFill) -> tuple[Array, dict[int, str]]:
    """Return the values in the column's dtype, and the rows with a value out of range."""
    column = fill.column
    values, bad = cast_values(lists.values, column.dtype, fill.time_ns)
    if not len(bad):
        return values, {}
    rows = np.searchsorted(lists.offsets, bad, side="right") - 1
    wanted = "a whole number" if lists.values.dtype.kind == "f" else column.dtype
    if fill.time_ns:
        wanted = "a time in int64 ns"
    reasons = {
        row: f"expected {wanted}, got {value}"
        for row, value in zip(rows.tolist(), lists.values[bad].tolist(), strict=True)
    }
    return values, reasons


def _scatter(values: Array, lists: _Lists, target: Array, fill: ColumnFill) -> dict[int, str]:
    """Copy lists into the rows of `target`, (events, size); return the rows of wrong length."""
    counts = np.diff(lists.offsets)
    events, size = target.shape
    if (counts == size).all():
        target[:] = values.reshape(events, size)
        return {}
    wrong = np.zeros(events, bool)
    if not fill.cut:
        wrong |= counts > size
    if fill.pad is None:
        wrong |= counts < size
    target[:] = fill.pad or 0
    taken = np.minimum(counts, size)
    rows = np.repeat(np.arange(events), taken)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(taken) - taken, taken)
    target[rows, places] = values[np.repeat(lists.offsets[:-1], taken) + places]
    return {row: f"expected {size} entries, got {counts[row]}" for row in _rows(wrong)}
