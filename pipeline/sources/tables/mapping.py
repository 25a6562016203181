"""Column mappings of graph files: columns of a table to columns of events."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np
from msgspec import Struct

from sluice.pipeline.core.errors import ConfigError, DataError, did_you_mean
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column
from sluice.pipeline.sources.column_spec import parse_column

#: Assumed length of lists for the size of chunks, items.
_ENTRIES = 256
RESERVED = {column.name: column for column in (EVENT_ID, T_EVENT)}


class ColumnMapping(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One entry of `columns` in a graph file.

    Attributes
    ----------
    form
        Dtype and item shape, such as ``float32[48]``, or ``float32[*,3]`` for lists of any length;
        `event_id` and `t_event` have their own.
    from_
        Name in the file (key ``from``); the name of the column by default. Several names are joined
        to the entries of the column's item.
    unit
        Unit of the values, for documentation.
    pad
        Number that fills short lists; None to reject events with short lists.
    cut
        Whether long lists are truncated; otherwise their events are rejected.
    offsets
        For lists in an HDF5 file whose items are stored one after another: name of the dataset with
        the offsets, one more than events.
    """

    form: str = ""
    from_: str | tuple[str, ...] = msgspec.field(name="from", default="")
    unit: str = "1"
    pad: float | None = None
    cut: bool = False
    offsets: str = ""


class Field(Struct, frozen=True, kw_only=True):
    """A column of a table: `events` items of `shape`, or lists of them.

    `trouble` is the reason why it cannot be used, empty if it can. `offsets` is the field with the
    offsets of the lists, if they are stored in two fields.
    """

    name: str
    events: int
    dtype: str = ""
    shape: tuple[int, ...] = ()
    ragged: bool = False
    trouble: str = ""
    offsets: str = ""

    @property
    def item_bytes(self) -> int:
        """Size of one event's item, bytes; for lists an estimate."""
        size = np.dtype(self.dtype).itemsize * math.prod(self.shape)
        return size * _ENTRIES if self.ragged else size

    @property
    def form(self) -> str:
        """Dtype and item shape as messages print them: ``float32[48]``, ``float32[*]``."""
        shape = (None, *self.shape) if self.ragged else self.shape
        return self.trouble or Column("", self.dtype, shape).spec


class ColumnFill(Struct, frozen=True):
    """Fields that fill one column: a single one, or one for each entry of its item."""

    column: Column
    fields: tuple[Field, ...]
    pad: float | None = None
    cut: bool = False


def resolve_mapping(
    columns: Mapping[str, str | ColumnMapping], fields: Mapping[str, Field], where: str
) -> list[ColumnFill]:
    """Return the fields of each column; without `columns`, of all columns of the table.

    `event_id` and `t_event` are taken from the table if it has integer fields of these names.

    Raises
    ------
    ConfigError
        If an entry of `columns` contradicts itself.
    DataError
        If a column is missing, has another dtype or shape, or another length than the others.
    """
    entries = {
        name: ColumnMapping(form=e) if isinstance(e, str) else e for name, e in columns.items()
    }
    for name in RESERVED:
        field = fields.get(name)
        if field and not field.trouble and not field.ragged and np.dtype(field.dtype).kind in "iu":
            entries.setdefault(name, ColumnMapping())
    if columns:
        fillings = [_filling(name, entry, fields, where) for name, entry in entries.items()]
    else:
        names = [f.name for f in fields.values() if not f.trouble]
        fillings = [
            _filling(n, ColumnMapping(form=_own_form(fields[n])), fields, where) for n in names
        ]
    if not fillings:
        raise DataError(f"{where}: expected columns of numbers, got none")
    _require_one_length(fillings, where)
    return fillings


def declared_columns(columns: Mapping[str, str | ColumnMapping], where: str) -> list[Column]:
    """Return the columns that a mapping declares, which are known without the file.

    Raises
    ------
    ConfigError
        If an entry has no `form`, or an invalid one.
    """
    entries = {
        name: ColumnMapping(form=e) if isinstance(e, str) else e for name, e in columns.items()
    }
    return [_declared(name, entry, where) for name, entry in entries.items()]


def _own_form(field: Field) -> str:
    reserved = RESERVED.get(field.name)
    # Recordings have no bool columns.
    dtype = "uint8" if field.dtype == "bool" else field.dtype
    shape = (None, *field.shape) if field.ragged else field.shape
    return reserved.spec if reserved else Column("", dtype, shape).spec


def _filling(
    name: str, entry: ColumnMapping, fields: Mapping[str, Field], where: str
) -> ColumnFill:
    at = f"{where}: column {name!r}"
    column = _declared(name, entry, where)
    found = _found(entry.from_ or name, column, fields, at)
    if entry.offsets:
        found = _listed(found, entry.offsets, fields, at)
    _check_pad(entry, column, at)
    for field in found:
        _check(field, column, entry, at, elements=len(found) > 1)
    return ColumnFill(column, found, entry.pad, entry.cut)


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


def _found(
    origin: str | tuple[str, ...], column: Column, fields: Mapping[str, Field], at: str
) -> tuple[Field, ...]:
    """Return the field of a name, or the fields of its entries, or those of several names."""
    names = (origin,) if isinstance(origin, str) else origin
    if isinstance(origin, str) and origin not in fields:
        elements = _elements(origin, column, fields)
        if elements:
            return elements
    for name in names:
        if name not in fields:
            raise DataError(
                f"{at}: expected {name!r} in the file, got no such column",
                hint=did_you_mean(name, fields) if len(fields) <= 20 else _close(name, fields),
            )
    if len(names) not in (1, math.prod(column.item_shape)) or not names:
        raise ConfigError(
            f"{at}: from: expected {math.prod(column.item_shape)} names for {column.spec}, "
            f"got {len(names)}"
        )
    return tuple(fields[name] for name in names)


def _listed(
    found: tuple[Field, ...], offsets: str, fields: Mapping[str, Field], at: str
) -> tuple[Field, ...]:
    """Return the fields as lists with the offsets of another field."""
    begins = fields.get(offsets)
    if begins is None:
        raise DataError(
            f"{at}: offsets: expected {offsets!r} in the file, got no such column",
            did_you_mean(offsets, fields),
        )
    if begins.trouble or begins.shape or begins.ragged or np.dtype(begins.dtype).kind not in "iu":
        raise DataError(f"{at}: offsets: {offsets!r}: expected integers, got {begins.form}")
    for field in found:
        if field.ragged:
            raise DataError(f"{at}: {field.name!r}: expected items, got lists: {field.form}")
    events = max(0, begins.events - 1)
    listed = {"events": events, "ragged": True, "offsets": offsets}
    return tuple(msgspec.structs.replace(field, **listed) for field in found)


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


def _close(origin: str, fields: Mapping[str, Field]) -> str | None:
    hint = did_you_mean(origin, fields)
    return hint if hint and hint.startswith("did") else f"it has {len(fields)} others"


def _elements(origin: str, column: Column, fields: Mapping[str, Field]) -> tuple[Field, ...]:
    """Return the fields ``CALQ_0`` … ``CALQ_47`` for ``CALQ``, if all exist."""
    fixed = column.shape and not column.ragged
    names = [f"{origin}_{i}" for i in range(math.prod(column.item_shape))] if fixed else []
    return tuple(fields[n] for n in names) if all(n in fields for n in names) else ()


def _check(field: Field, column: Column, entry: ColumnMapping, at: str, *, elements: bool) -> None:
    if field.trouble:
        raise DataError(f"{at}: {field.name!r}: expected numbers, got {field.trouble}")
    wanted, got = np.dtype(column.dtype), np.dtype(field.dtype)
    same_kind = wanted.kind == "f" or got.kind in "iub"
    if column.ragged:
        size = 1 if elements else math.prod(column.item_shape)
        if not (same_kind and field.ragged and math.prod(field.shape) == size):
            form = f"{column.dtype}[*]" if elements else column.spec
            raise DataError(f"{at}: {field.name!r}: expected {form}, got {field.form}")
        return
    size, has = 1 if elements else math.prod(column.item_shape), math.prod(field.shape)
    fits = size == has or (has < size and entry.pad is not None) or (has > size and entry.cut)
    single = field.ragged and not field.shape
    if not (same_kind and ((fits and not field.ragged) or (single and not elements))):
        form = column.dtype if elements else column.spec
        raise DataError(f"{at}: {field.name!r}: expected {form}, got {field.form}")


def _require_one_length(fillings: list[ColumnFill], where: str) -> None:
    lengths = {field.name: field.events for filling in fillings for field in filling.fields}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {events}" for name, events in list(lengths.items())[:6])
        raise DataError(
            f"{where}: expected columns of one length, got {shown}",
            hint="name those that belong together in `columns`",
        )
