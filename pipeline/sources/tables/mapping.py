"""The column mapping of a graph file: which columns of a table become which columns of events."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np
from msgspec import Struct

from sluice.pipeline.core.errors import ConfigError, DataError, did_you_mean
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column
from sluice.pipeline.sources.column_spec import parse_column

#: Entries of a list of unknown length, for the size of chunks.
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
        Name in the file (``from``); the column's own unless given. Several names become the
        entries of the column's items, one each.
    unit
        Of the values, for people.
    pad
        Lists that are too short are filled with this number; refused unless given.
    cut
        Lists that are too long keep their first entries; refused unless true.
    offsets
        Of lists in an HDF5 file, whose items lie one after another: the dataset that says where
        each list begins and where the last ends.
    """

    form: str = ""
    from_: str | tuple[str, ...] = msgspec.field(name="from", default="")
    unit: str = "1"
    pad: float | None = None
    cut: bool = False
    offsets: str = ""


class Field(Struct, frozen=True, kw_only=True):
    """A column of a table: `events` items of `shape`, or lists of them.

    `trouble` says why it cannot be used; empty if it can. `offsets` is the field that says where
    lists begin, where they lie in two.
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
        """Bytes of one event's item; those of a list are a guess."""
        size = np.dtype(self.dtype).itemsize * math.prod(self.shape)
        return size * _ENTRIES if self.ragged else size

    @property
    def form(self) -> str:
        """Dtype and item shape as messages print them: ``float32[48]``, ``float32[*]``."""
        shape = (None, *self.shape) if self.ragged else self.shape
        return self.trouble or Column("", self.dtype, shape).spec


class ColumnFill(Struct, frozen=True):
    """How one column is filled: from one field, or from one field for each entry."""

    column: Column
    fields: tuple[Field, ...]
    pad: float | None = None
    cut: bool = False


def resolve_mapping(
    columns: Mapping[str, str | ColumnMapping], fields: Mapping[str, Field], where: str
) -> list[ColumnFill]:
    """Return how each column is filled; without `columns`, all that the table has.

    `event_id` and `t_event` are taken from the table where it has integers of these names.

    Raises
    ------
    ConfigError
        If an entry of `columns` is wrong in itself.
    DataError
        If the table has no such column, one of another form, or columns of unequal length.
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
    """Return the columns that a mapping declares, which can be told before there is a file.

    Raises
    ------
    ConfigError
        If an entry has no form, or none that is one.
    """
    entries = {
        name: ColumnMapping(form=e) if isinstance(e, str) else e for name, e in columns.items()
    }
    return [_declared(name, entry, where) for name, entry in entries.items()]


def _own_form(field: Field) -> str:
    reserved = RESERVED.get(field.name)
    # Recordings hold no truth values.
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
    """Return the field of a name, or those of its entries, or those of several names."""
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
    """Return fields of items as lists that begin where another field says."""
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
    """Refuse a number that the column cannot hold, or that would fill up lists."""
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
    """Return ``CALQ_0`` … ``CALQ_47`` for ``CALQ``, if all are there."""
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
