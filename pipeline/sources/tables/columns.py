"""Conversion of a table's fields to columns of events: cast, join, pad, truncate, reject."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from msgspec import Struct

from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import Array, Column

from .mapping import ColumnFill


class FieldValues(Struct, frozen=True):
    """Some events of one field.

    Attributes
    ----------
    values
        Values, (events, ...); for lists, the items of all lists, (items, ...).
    offsets
        Offsets of lists in `values`, (events + 1,), beginning with 0; None for other fields.
    nulls
        Whether each event has no value, bool (events,); None if all have one.
    """

    values: Array
    offsets: Array | None = None
    nulls: Array | None = None


ValuesByField = dict[str, FieldValues]


class FilledColumn(Struct):
    """A filled column, and its rejected events: row to reason and raw bytes."""

    values: Array | Ragged
    refused: dict[int, tuple[str, bytes]]


def fill_column(filling: ColumnFill, parts: Mapping[str, FieldValues], events: int) -> FilledColumn:
    """Return the column of `events` events; rejected rows hold zeros, or no items.

    Any number fits a float column; an integer column takes the values in its range. Lists must have
    the length of the column's item, unless the mapping pads or truncates them.
    """
    column = filling.column
    if column.ragged:
        return fill_lists(filling, parts, events)
    size = math.prod(column.item_shape)
    flat = np.zeros((events, size), column.dtype)
    refused: dict[int, tuple[str, bytes]] = {}
    joined = len(filling.fields) > 1
    for entry, field in enumerate(filling.fields):
        lists = _as_lists(parts[field.name], events)
        target = flat[:, entry : entry + 1] if joined else flat
        cast, reasons = _cast(lists, column)
        reasons |= _scatter(cast, lists, target, filling)
        reasons |= {row: "expected a value, got null" for row in _rows(lists.nulls)}
        for row, reason in reasons.items():
            raw = lists.values[lists.offsets[row] : lists.offsets[row + 1]].tobytes()
            refused.setdefault(row, (f"{field.name}: {reason}", raw))
    flat[list(refused)] = 0
    return FilledColumn(flat.reshape(events, *column.item_shape), refused)


class _Lists(Struct):
    """Field values with items of fixed size as lists of that size."""

    values: Array
    offsets: Array
    nulls: Array | None


def _as_lists(part: FieldValues, events: int) -> _Lists:
    width = math.prod(part.values.shape[1:])
    if part.offsets is not None:
        return _Lists(part.values.reshape(-1), part.offsets * width, part.nulls)
    return _Lists(part.values.reshape(-1), np.arange(events + 1) * width, part.nulls)


def fill_lists(filling: ColumnFill, parts: Mapping[str, FieldValues], events: int) -> FilledColumn:
    """Return a ragged column: lists of one field, or of several fields joined item by item."""
    column = filling.column
    width = math.prod(column.item_shape) if len(filling.fields) == 1 else 1
    found = [_as_lists(parts[field.name], events) for field in filling.fields]
    counts = [np.diff(lists.offsets) // max(1, width) for lists in found]
    refused: dict[int, tuple[str, bytes]] = {}
    casts = []
    for field, lists, count in zip(filling.fields, found, counts, strict=True):
        cast, reasons = _cast(lists, column)
        casts.append(cast.reshape(-1, width))
        reasons |= _too_many(count, filling)
        for row in _rows(count != counts[0]):
            other = f"as many items as {filling.fields[0].name}, {counts[0][row]}"
            reasons[row] = f"expected {other}, got {count[row]}"
        reasons |= {row: "expected a list, got null" for row in _rows(lists.nulls)}
        for row, reason in reasons.items():
            raw = lists.values[lists.offsets[row] : lists.offsets[row + 1]].tobytes()
            refused.setdefault(row, (f"{field.name}: {reason}", raw))
    taken = np.minimum(counts[0], column.item_limit)
    taken[list(refused)] = 0
    items = np.empty((int(taken.sum()), width * len(found)), column.dtype)
    for place, (cast, count) in enumerate(zip(casts, counts, strict=True)):
        kept = cast if (count == taken).all() else cast[_first(count, taken)]
        items[:, place * width : (place + 1) * width] = kept
    return FilledColumn(Ragged.from_counts(items.reshape(-1, *column.item_shape), taken), refused)


def _too_many(counts: Array, filling: ColumnFill) -> dict[int, str]:
    max_items = filling.column.item_limit
    if filling.cut:
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


def _cast(lists: _Lists, column: Column) -> tuple[Array, dict[int, str]]:
    """Return the values in the column's dtype, and the rows with a value out of range."""
    values, wanted = lists.values, np.dtype(column.dtype)
    if wanted.kind == "f" or np.can_cast(values.dtype, wanted):
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # an overflow becomes infinite; the stages flag it as invalid
            return values.astype(wanted, copy=False), {}
    limits = np.iinfo(wanted)
    bad = np.flatnonzero((values < limits.min) | (values > limits.max))
    rows = np.searchsorted(lists.offsets, bad, side="right") - 1
    reasons = {
        row: f"expected {column.dtype}, got {value}"
        for row, value in zip(rows.tolist(), values[bad].tolist(), strict=True)
    }
    return values.astype(wanted), reasons


def _scatter(values: Array, lists: _Lists, target: Array, filling: ColumnFill) -> dict[int, str]:
    """Copy lists into the rows of `target`, (events, size); return the rows of wrong length."""
    counts = np.diff(lists.offsets)
    events, size = target.shape
    if (counts == size).all():
        target[:] = values.reshape(events, size)
        return {}
    wrong = np.zeros(events, bool)
    if not filling.cut:
        wrong |= counts > size
    if filling.pad is None:
        wrong |= counts < size
    target[:] = filling.pad or 0
    taken = np.minimum(counts, size)
    rows = np.repeat(np.arange(events), taken)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(taken) - taken, taken)
    target[rows, places] = values[np.repeat(lists.offsets[:-1], taken) + places]
    return {row: f"expected {size} entries, got {counts[row]}" for row in _rows(wrong)}
