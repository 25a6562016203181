"""The source ``memory``: NumPy arrays, Arrow tables and record batches of this process."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from sluice.pipeline.core.arrow import from_arrow, from_arrow_schema, validate
from sluice.pipeline.core.batch import EventBatch, concatenate
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, T_INGEST, Column, Schema
from sluice.pipeline.transport.socket import Socket

from .base import NONE, UNLIMITED, Available, Losses, now_for, within_limits

#: Name of this source in a graph, as messages print it.
NAME = "memory"

#: Tables that are available to sources, by number.
_numbers = count(1)
_tables: dict[int, tuple[Schema, EventBatch]] = {}


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
    _tables[number] = as_events(data)
    try:
        yield number
    finally:
        del _tables[number]


def as_events(data: Any) -> tuple[Schema, EventBatch]:
    """Return the columns of `data` and its events as one batch."""
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    if isinstance(data, pa.Table):
        return _from_table(data)
    if not isinstance(data, Mapping):
        raise DataError(
            f"{NAME}: expected a path, a dict of NumPy arrays, a pyarrow Table or RecordBatch, "
            f"got {type(data).__name__}"
        )
    if not data:
        raise DataError(f"{NAME}: expected columns, got an empty dict")
    arrays = {str(name): _native(array) for name, array in data.items()}
    schema = Schema(_column(name, array) for name, array in arrays.items())
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {events}" for name, events in list(lengths.items())[:6])
        raise DataError(f"{NAME}: expected columns of one length, got {shown}")
    return schema, EventBatch(arrays, next(iter(lengths.values())))


def _from_table(table: pa.Table) -> tuple[Schema, EventBatch]:
    schema = from_arrow_schema(table.schema, NAME)
    # Writing and reading it as a stream turns slices and chunks into contiguous buffers.
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    batches = []
    try:
        for record_batch in pa.ipc.open_stream(buffer.getvalue()):
            validate(record_batch, schema)
            batches.append(from_arrow(record_batch, schema))
    except pa.ArrowException as error:
        raise DataError(f"{NAME}: {error}") from error
    if not batches:
        return schema, EventBatch({column.name: column.empty(0) for column in schema}, 0)
    return schema, concatenate(batches)


def _native(values: Any) -> Any:
    """Return an array contiguous, in native byte order, and bool as uint8, as in recordings."""
    if isinstance(values, Ragged):
        return values
    array = np.asarray(values)
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _column(name: str, array: Any) -> Column:
    if array.dtype.kind not in "iuf" or not array.shape:
        raise DataError(
            f"{NAME}: column {name!r}: expected an array of numbers with one entry an event, "
            f"got {array.dtype}{list(array.shape)}"
        )
    return Column(name, str(array.dtype), tuple(array.shape[1:]))


class MemorySource:
    """Returns the events of one table that was passed to `shared`, without copying them."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Number of the table."""

        #: Number of the table, from `shared`.
        table: int

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._columns, self._batch = _tables[options.table]
        for column in (EVENT_ID, T_EVENT):
            if column.name not in self._columns:
                continue
            got = self._columns[column.name].spec
            if got != column.spec:
                raise DataError(
                    f"{name}: column {column.name!r}: expected {column.spec}, got {got}"
                )
        self.schema = self._columns.merge((EVENT_ID, T_EVENT, T_INGEST))
        self.exhausted = not self._batch.events
        self.corruption: str | None = None
        self.expected: int | None = self._batch.events
        self.socket: Socket | None = None
        self._first = 0
        self._losses = Losses()

    def open(self) -> None:
        """Do nothing: the events are in memory."""

    def select_columns(self, names: Collection[str], events: int) -> None:
        """Do nothing: all columns are in memory already."""

    def receive(self) -> None:
        """Do nothing: there is no socket."""

    def available(self) -> Available:
        """Return that any batch can be full."""
        return NONE if self.exhausted else UNLIMITED

    def read(self, max_events: int) -> EventBatch | None:
        """Return the next `max_events` events, fewer only at the end."""
        if self.exhausted:
            return None
        first, last = self._first, min(self._first + max_events, self._batch.events)
        self._first, self.exhausted = last, last == self._batch.events
        batch = self._batch.slice(first, last)
        added: dict[str, Any] = {T_INGEST.name: now_for(batch.events)}
        if EVENT_ID.name not in self._columns:
            added[EVENT_ID.name] = np.arange(first, last, dtype=np.uint64)
        if T_EVENT.name not in self._columns:
            added[T_EVENT.name] = np.zeros(batch.events, np.int64)
        batch = batch.with_columns(**added)
        if self._columns.ragged:
            batch, refused = within_limits(
                batch, self._columns, lambda row: f"{self.name}: event {first + row}"
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
