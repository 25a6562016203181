"""Fields: the columns of a table as a file has them, and some of their values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from msgspec import Struct

from sluice.pipeline.core.schema import Array, Column

#: Assumed length of lists for the size of chunks, items.
_ITEMS = 256
#: Unit of a time to its length, ns.
TIME_UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


class Field(Struct, frozen=True, kw_only=True):
    """A column of a table: items of one shape, or lists of them.

    Attributes
    ----------
    name
        Name in the file; members of records are named with dots.
    events
        Number of events; None if only reading the file shows it.
    dtype, shape
        Dtype and shape of an item.
    ragged
        Whether each event has a list of items.
    trouble
        Why the column cannot be used, as a message names it; empty if it can.
    time_unit
        Unit of the values if the file says that they are times: s, ms, us or ns.
    text
        Whether the file is text, from which numbers of `dtype` are read.
    index
        How lists are stored whose items follow one another in this field: kind of the index
        (offsets, ends, begins or counts) and the name of the field that has it.
    """

    name: str
    events: int | None
    dtype: str = ""
    shape: tuple[int, ...] = ()
    ragged: bool = False
    trouble: str = ""
    time_unit: str = ""
    text: bool = False
    index: tuple[tuple[str, str], ...] = ()

    @property
    def item_bytes(self) -> int:
        """Size of one event's item, bytes; for lists an estimate."""
        size = np.dtype(self.dtype).itemsize * math.prod(self.shape)
        return size * _ITEMS if self.ragged else size

    @property
    def form(self) -> str:
        """Dtype and item shape as messages print them: ``float32[48]``, ``float32[*]``."""
        shape = (None, *self.shape) if self.ragged else self.shape
        return self.trouble or Column("", self.dtype, shape).spec


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
    null_name
        What an event without a value has in its place, as the reason for its rejection says.
    """

    values: Array
    offsets: Array | None = None
    nulls: Array | None = None
    null_name: str = "null"


ValuesByField = dict[Field, FieldValues]


class TableChunk(Struct, frozen=True, kw_only=True):
    """Some events of a table.

    Attributes
    ----------
    events
        Number of events, invalid ones included.
    values
        Values of the fields that were asked for.
    invalid
        Row of each event that cannot be read, to the reason.
    lines
        Number of the line of each event, and its text, for files of text.
    """

    events: int
    values: ValuesByField
    invalid: dict[int, str] = {}
    lines: Sequence[tuple[int, str]] = ()


class TableDefaults(Struct, frozen=True):
    """What holds for a table of which the graph says no more.

    Attributes
    ----------
    columns
        Mapping of its columns, as `resolve_mapping` takes it; empty for all columns of numbers.
    event_ns
        Time between two events, ns, for the `t_event` of a table without times.
    """

    columns: Mapping[str, Any] = {}
    event_ns: int = 0


NO_DEFAULTS = TableDefaults()


class Table(Protocol):
    """An open file of columns of one length."""

    @property
    def defaults(self) -> TableDefaults:
        """Columns and times of this table, unless the graph says others."""

    @property
    def fields(self) -> Mapping[str, Field]:
        """Columns by name, also those that cannot be used."""

    def check(self, fields: Sequence[Field]) -> None:
        """Raise DataError if values of these fields are missing that would be read as numbers."""

    def chunks(self, fields: Sequence[Field], max_events: int) -> Iterator[TableChunk]:
        """Yield the values of these fields, about `max_events` events at a time.

        Raises
        ------
        DataError
            If the file is damaged, after all events before the damage were yielded.
        """

    def storage(self, field: Field) -> str:
        """Return how a column is stored, for people; empty if there is nothing to say."""

    def close(self) -> None:
        """Close the file."""


def named_once(fields: Iterator[Field] | Sequence[Field]) -> dict[str, Field]:
    """Return fields by name; a name that the file has twice cannot be used.

    Examples
    --------
    >>> twice = named_once([Field(name="x", events=1, dtype="int8")] * 2)
    >>> twice["x"].trouble
    'several columns of this name'
    """
    found: dict[str, Field] = {}
    for field in fields:
        if field.name in found:
            field = Field(
                name=field.name, events=field.events, trouble="several columns of this name"
            )
        found[field.name] = field
    return found
