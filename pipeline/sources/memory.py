"""The source ``memory``: NumPy arrays, Arrow tables and record batches of this process."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from sluice.pipeline.core.arrow import from_arrow_schema
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, T_INGEST, Column, Schema
from sluice.pipeline.transport.socket import Socket

from .base import NONE, UNLIMITED, Available, Losses, now_for, within_limits
from .prefetch import Chunk
from .tables.arrow_types import Leaf, fields_of, leaves_of, values_of
from .tables.reader import assemble
from .tables.rules.field import FieldValues, TableChunk
from .tables.rules.mapping import RESERVED, ColumnFill, resolve_mapping

#: Name of this source in a graph, as messages print it.
NAME = "memory"

#: Tables that are available to sources, by number.
_numbers = count(1)
_tables: dict[int, _Arrays | ArrowEvents] = {}


@contextmanager
def shared(data: Any) -> Iterator[int]:
    """Make `data` available to a `MemorySource` of this process; yield the number of its table.

    Parameters
    ----------
    data
        Dict from column name to NumPy array or `Ragged`, each with one entry per event; or a
        pyarrow Table or RecordBatch.

    Raises
    ------
    DataError
        If a column does not hold numbers, or columns differ in length.
    """
    number = next(_numbers)
    _tables[number] = _content(data)
    try:
        yield number
    finally:
        del _tables[number]


def _content(data: Any) -> _Arrays | ArrowEvents:
    """Return the columns of `data`."""
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    if isinstance(data, pa.Table):
        return ArrowEvents(data)
    if not isinstance(data, Mapping):
        raise DataError(
            f"{NAME}: expected a path, a dict of NumPy arrays, a pyarrow Table or RecordBatch, "
            f"got {type(data).__name__}"
        )
    if not data:
        raise DataError(f"{NAME}: expected columns, got an empty dict")
    arrays = {str(name): _native(array) for name, array in data.items()}
    if EVENT_ID.name in arrays:
        arrays[EVENT_ID.name] = _ids(arrays[EVENT_ID.name])
    schema = Schema(_column(name, array) for name, array in arrays.items())
    for column in (EVENT_ID, T_EVENT):
        if column.name in schema and (got := schema[column.name].spec) != column.spec:
            raise DataError(f"{NAME}: column {column.name!r}: expected {column.spec}, got {got}")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {events}" for name, events in list(lengths.items())[:6])
        raise DataError(f"{NAME}: expected columns of one length, got {shown}")
    return _Arrays(schema, EventBatch(arrays, next(iter(lengths.values()))))


class _Arrays(Struct, frozen=True):
    """Columns of NumPy arrays."""

    schema: Schema
    batch: EventBatch

    @property
    def events(self) -> int:
        """Number of events."""
        return self.batch.events

    def read(self, names: Collection[str]) -> Chunk:
        """Return all columns: they are there already."""
        return Chunk(self.batch, [])


class ArrowEvents:
    """Columns of an Arrow table, by the rules for tables: those that are not read never matter.

    Attributes
    ----------
    schema, events
        Columns, and number of events.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table, self.events = table, table.num_rows
        try:
            self._leaves = leaves_of([(f.name, f.type) for f in table.schema], table.num_rows)
        except UnicodeDecodeError as error:
            raise DataError(f"{NAME}: column names: {error}") from error
        fills = resolve_mapping({}, fields_of(self._leaves), NAME)
        self._fills = [replace(fill, column=self._described(fill)) for fill in fills]
        self.schema = Schema(fill.column for fill in self._fills)

    def read(self, names: Collection[str]) -> Chunk:
        """Return the events with these columns, but at least one; those with a null are rejected.

        Raises
        ------
        DataError
            If Arrow's buffers are not consistent.
        """
        chosen = [f for f in self._fills if f.column.name in names] or self._fills[:1]
        fields = dict.fromkeys(field for fill in chosen for field in fill.fields)
        try:
            values = {field: self._values(self._leaves[field.name]) for field in fields}
        except pa.ArrowException as error:
            raise DataError(f"{NAME}: {error}") from error
        chunk = TableChunk(events=self.events, values=values)
        return assemble(chunk, chosen, lambda row: f"{NAME}: event {row}", 0)

    def _values(self, leaf: Leaf) -> FieldValues:
        array = self._table.column(leaf.column).combine_chunks()
        array.validate(full=True)
        return values_of(array, leaf)

    def _described(self, fill: ColumnFill) -> Column:
        """Return a column with the unit, labels and item shape that Sluice wrote, if it did."""
        if fill.column.name in RESERVED or "." in fill.fields[0].name:
            return fill.column
        field = self._table.schema.field(fill.fields[0].name)
        with suppress(DataError):
            (column,) = from_arrow_schema(pa.schema([field]), NAME)
            if math.prod(column.item_shape) == math.prod(fill.column.item_shape):
                return column
        return fill.column


def _native(values: Any) -> Any:
    """Return an array contiguous, in native byte order, and bool as uint8, as in recordings."""
    if isinstance(values, Ragged):
        return values
    array = np.asarray(values)
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _ids(array: Any) -> Any:
    """Return integers of any type as event ids; what is none is left to the check of columns."""
    if array.dtype.kind != "i":
        return array if array.dtype.kind != "u" else array.astype(EVENT_ID.dtype, copy=False)
    if len(array) and array.min() < 0:
        raise DataError(f"{NAME}: column 'event_id': expected ids from 0, got {array.min()}")
    return array.astype(EVENT_ID.dtype)


def _column(name: str, array: Any) -> Column:
    if array.dtype.kind not in "iuf" or not array.shape:
        raise DataError(
            f"{NAME}: column {name!r}: expected an array of numbers with one entry an event, "
            f"got {array.dtype}{list(array.shape)}"
        )
    return Column(name, str(array.dtype), tuple(array.shape[1:]))


class MemorySource:
    """Returns the events of one table that was passed to `shared`; arrays are not copied."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Number of the table."""

        #: Number of the table, from `shared`.
        table: int

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._content = _tables[options.table]
        self.schema = self._content.schema.merge((EVENT_ID, T_EVENT, T_INGEST))
        self.expected: int | None = self._content.events
        self.exhausted = not self.expected
        self.corruption: str | None = None
        self.socket: Socket | None = None
        self._batch: EventBatch | None = None
        self._first = 0
        self._losses = Losses()

    def open(self) -> None:
        """Do nothing: the events are in memory."""

    def select_columns(self, names: Collection[str], events: int) -> None:
        """Read these columns only."""
        self._batch, rejected = self._content.read(names)
        self.exhausted = not self._batch.events
        for one in rejected:
            self._losses.reject(one)

    def receive(self) -> None:
        """Do nothing: there is no socket."""

    def available(self) -> Available:
        """Return that any batch can be full."""
        return NONE if self.exhausted else UNLIMITED

    def read(self, max_events: int) -> EventBatch | None:
        """Return the next `max_events` events, fewer only at the end."""
        if self._batch is None:
            self.select_columns(self._content.schema.names, max_events)
        if self._batch is None or self.exhausted:
            return None
        first, last = self._first, min(self._first + max_events, self._batch.events)
        self._first, self.exhausted = last, last == self._batch.events
        batch = self._batch.slice(first, last)
        added: dict[str, Any] = {T_INGEST.name: now_for(batch.events)}
        if EVENT_ID.name not in batch.columns:
            added[EVENT_ID.name] = np.arange(first, last, dtype=np.uint64)
        if T_EVENT.name not in batch.columns:
            added[T_EVENT.name] = np.zeros(batch.events, np.int64)
        batch = batch.with_columns(**added)
        read = self._content.schema.select(batch.columns)
        if read.ragged:
            batch, refused = within_limits(
                batch, read, lambda row: f"{self.name}: event {first + row}"
            )
            for rejected in refused:
                self._losses.reject(rejected)
        return batch

    def stop(self) -> None:
        """Return no more events."""
        self.exhausted = True

    def losses(self) -> Losses:
        """Return the events whose lists are too long since the last call."""
        losses, self._losses = self._losses, Losses()
        return losses

    def close(self) -> None:
        """Do nothing: there is nothing to close."""
