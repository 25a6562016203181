"""Column mappings of graph files: columns of a table to columns of events."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np
from msgspec import Struct

from sluice.pipeline.core.errors import ConfigError, DataError
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column
from sluice.pipeline.sources.column_spec import parse_column

from .field import TIME_UNITS, Field
from .matching import INDEX_KINDS, as_lists, find_fields, share_of

RESERVED = {column.name: column for column in (EVENT_ID, T_EVENT)}


class ColumnMapping(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One entry of `columns` in a graph file.

    Attributes
    ----------
    form
        Dtype and item shape, such as ``float32[48]``, or ``float32[*,3]`` for lists of any length;
        `event_id` and `t_event` have their own.
    from_
        Name in the file (key ``from``); the name of the column by default. Several names, or the
        names that a pattern matches, are joined along the first axis of the column's item.
    unit
        Unit of the values, for documentation; of `t_event` the unit in the file, such as ``s``.
    pad
        Number that fills short lists; None to reject events with short lists.
    cut
        Whether long lists are truncated; otherwise their events are rejected.
    offsets
        For lists in an HDF5 file whose items are stored one after another: name of the dataset with
        the offsets, one more than events.
    ends, begins, counts
        In place of `offsets`: name of the dataset that has for each event the index behind the
        list's last item, that of its first item, or the number of its items.
    """

    form: str = ""
    from_: str | tuple[str, ...] = msgspec.field(name="from", default="")
    unit: str = "1"
    pad: float | None = None
    cut: bool = False
    offsets: str = ""
    ends: str = ""
    begins: str = ""
    counts: str = ""

    @property
    def index(self) -> tuple[tuple[str, str], ...]:
        """Kinds and names of the datasets that say where lists begin or end."""
        return tuple((kind, name) for kind in INDEX_KINDS if (name := getattr(self, kind)))


class ColumnFill(Struct, frozen=True):
    """Fields that fill one column, a single one, or several along the first axis of its item.

    `time_ns` is the unit of a field of times, ns; 0 for other fields.
    """

    column: Column
    fields: tuple[Field, ...]
    pad: float | None = None
    cut: bool = False
    time_ns: int = 0


Mappings = Mapping[str, str | ColumnMapping]


def resolve_mapping(columns: Mappings, fields: Mapping[str, Field], where: str) -> list[ColumnFill]:
    """Return the fields of each column; without `columns`, of all columns of the table.

    `event_id` and `t_event` are taken from the table if it has fields of these names.

    Raises
    ------
    ConfigError
        If an entry of `columns` contradicts itself.
    DataError
        If a column is missing, has another dtype or shape, or another length than the others; if
        the table has an `event_id` or a `t_event` that is not what it must be.
    """
    entries = _entries(columns)
    if not columns:
        usable = [f for f in fields.values() if not f.trouble and f.name not in RESERVED]
        entries = {field.name: ColumnMapping(form=_own_form(field)) for field in usable}
    for name in RESERVED:
        if name in fields and name not in entries:
            _require_reserved(fields[name], where)
            entries[name] = ColumnMapping()
    filled = [_fill(name, entry, fields, where) for name, entry in entries.items()]
    if not filled:
        raise DataError(f"{where}: expected columns of numbers, got {_kinds(fields) or 'none'}")
    _require_one_length(filled, where)
    return filled


def declared_columns(columns: Mappings, where: str) -> list[Column]:
    """Return the columns that a mapping declares, which are known without the file.

    Raises
    ------
    ConfigError
        If an entry has no `form`, or an invalid one.
    """
    return [_declared(name, entry, where) for name, entry in _entries(columns).items()]


def _entries(columns: Mappings) -> dict[str, ColumnMapping]:
    return {name: ColumnMapping(form=e) if isinstance(e, str) else e for name, e in columns.items()}


def _kinds(fields: Mapping[str, Field]) -> str:
    return ", ".join(f"{field.name} ({field.form})" for field in list(fields.values())[:6])


def _own_form(field: Field) -> str:
    # Recordings have no bool columns.
    dtype = "uint8" if field.dtype == "bool" else field.dtype
    shape = (None, *field.shape) if field.ragged else field.shape
    return Column("", dtype, shape).spec


def _require_reserved(field: Field, where: str) -> None:
    """Raise DataError if a field cannot be the `event_id` or `t_event` that its name says it is.

    Numbers made up in its place would be taken for those of the file.
    """
    at = f"{where}: column {field.name!r}"
    integers = not field.trouble and np.dtype(field.dtype).kind in "iu"
    fits = (integers or field.text) and (field.name == T_EVENT.name or not field.time_unit)
    if fits and not (field.ragged or field.shape):
        return
    if field.name == T_EVENT.name:
        hint = 'if it is a time, say so: t_event = { from = "t_event", unit = "s" }'
        raise DataError(f"{at}: expected integers in ns, or times, got {field.form}", hint)
    raise DataError(
        f"{at}: expected integers, got {_described(field)}",
        'map another column, event_id = { from = NAME }; whole numbers stored as floating-point '
        'numbers are taken by event_id = { from = "event_id" }',
    )  # fmt: skip


def _described(field: Field) -> str:
    return f"times in {field.time_unit}" if field.time_unit else field.form


def _fill(name: str, entry: ColumnMapping, fields: Mapping[str, Field], where: str) -> ColumnFill:
    at = f"{where}: column {name!r}"
    column = _declared(name, entry, where)
    found = find_fields(entry.from_ or name, column, fields, at)
    if entry.index:
        found = as_lists(found, entry.index, fields, at)
    _check_pad(entry, column, at)
    time_ns = _time_ns(column, entry, found, at)
    found = tuple(_as_numbers(field, column, entry, len(found)) for field in found)
    for field in found:
        _check(field, column, entry, at, share=share_of(column, len(found)))
    return ColumnFill(column, found, entry.pad, entry.cut, time_ns)


def _declared(name: str, entry: ColumnMapping, where: str) -> Column:
    at = f"{where}: column {name!r}"
    if not entry.form and name not in RESERVED:
        raise ConfigError(f"{at}: expected a `form`, such as 'float32[48]', got none")
    form = entry.form or RESERVED[name].spec
    column = parse_column(name, form, where, entry.unit)
    if name in RESERVED:
        column = RESERVED[name]
        if form != column.spec:
            raise ConfigError(f"{at}: expected the form {column.spec}, got {form}")
    return column


def _check_pad(entry: ColumnMapping, column: Column, at: str) -> None:
    """Raise ConfigError if the column cannot hold the number `pad`, or has lists of any length."""
    if entry.pad is not None and column.ragged:
        raise ConfigError(
            f"{at}: pad: expected none for {column.spec}: its lists are not filled up"
        )
    if entry.pad is None or np.dtype(column.dtype).kind == "f":
        return
    limits = np.iinfo(column.dtype)
    if not (entry.pad.is_integer() and limits.min <= entry.pad <= limits.max):
        raise ConfigError(f"{at}: pad: expected {column.dtype}, got {entry.pad:g}")


def _time_ns(column: Column, entry: ColumnMapping, found: tuple[Field, ...], at: str) -> int:
    """Return the unit of times in the file, ns; 0 if the values are not times."""
    field = found[0]
    if column.name != T_EVENT.name:
        return TIME_UNITS.get(field.time_unit, 0)
    stated = entry.unit if entry.unit != "1" else field.time_unit
    if field.time_unit and stated != field.time_unit:
        raise ConfigError(
            f"{at}: unit: expected {field.time_unit!r} as in the file, got {stated!r}"
        )
    if stated and stated not in TIME_UNITS:
        raise ConfigError(f"{at}: unit: expected one of {', '.join(TIME_UNITS)}, got {stated!r}")
    if not stated and not field.trouble and np.dtype(field.dtype).kind == "f" and not field.text:
        raise DataError(
            f"{at}: {field.name!r}: expected integers in ns, got {field.form}",
            'say what unit it has, such as { from = "time", unit = "s" }',
        )
    return TIME_UNITS.get(stated, 0)


def _as_numbers(field: Field, column: Column, entry: ColumnMapping, names: int) -> Field:
    """Return a field of text with the dtype in which its text is read."""
    if not field.text:
        return field
    kind = np.dtype(column.dtype).kind
    floating = kind == "f" or (column.name == T_EVENT.name and entry.unit != "1")
    dtype = "float64" if floating else {"i": "int64", "u": "uint64"}[kind]
    lists = column.ragged or share_of(column, names) > 1
    # Text at the beginning of a column does not refuse a file whose graph says that it has numbers.
    return msgspec.structs.replace(field, dtype=dtype, ragged=lists, trouble="")


def _check(field: Field, column: Column, entry: ColumnMapping, at: str, *, share: int) -> None:
    """Raise DataError unless a field has the dtype and shape of its share of the column."""
    if field.trouble or (field.time_unit and column.name == EVENT_ID.name):
        raise DataError(f"{at}: {field.name!r}: expected numbers, got {_described(field)}")
    wanted, got = np.dtype(column.dtype), np.dtype(field.dtype)
    whole = share == math.prod(column.item_shape)
    # Whole numbers that are stored as floating-point numbers are taken for these two, by name.
    same_kind = wanted.kind == "f" or got.kind in "iub" or column.name in RESERVED
    has = math.prod(field.shape)
    if column.ragged:
        fits = field.ragged and (has == share or field.text)
    else:
        fits = not field.ragged and (
            share == has or (has < share and entry.pad is not None) or (has > share and entry.cut)
        )
        fits = fits or (field.ragged and not field.shape and (whole or share > 1))
    if not (same_kind and fits):
        raise DataError(
            f"{at}: {field.name!r}: expected {_wanted(column, share)}, got {field.form}"
        )


def _wanted(column: Column, share: int) -> str:
    """Return the spec of a field that fills so many values of an item."""
    if share == math.prod(column.item_shape):
        return column.spec
    rest = column.item_shape[1:] if share > 1 else ()
    shape = (None, *rest) if column.ragged else rest
    return Column("", column.dtype, shape).spec


def _require_one_length(filled: list[ColumnFill], where: str) -> None:
    lengths = {field.name: field.events for fill in filled for field in fill.fields}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {events}" for name, events in list(lengths.items())[:6])
        raise DataError(
            f"{where}: expected columns of one length, got {shown}",
            hint="name those that belong together in `columns`",
        )
