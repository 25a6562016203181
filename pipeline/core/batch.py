"""Batches of events: named columns with a leading event axis, and the outcomes of events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np

from . import hugepages
from .errors import DataError
from .ragged import Ragged, concatenate_ragged
from .schema import OUTCOME, Array, Column, Schema


class Outcome(IntEnum):
    """The class of the ledger in which an event ends; OPEN until the menu has decided."""

    OPEN = 0
    ACCEPTED = 1
    REJECTED = 2
    PRESCALED = 3
    SHED = 4
    INVALID = 5
    FAILED = 6
    LOST = 7


class Flag(msgspec.Struct, frozen=True, array_like=True):
    """Events of a batch without a decision: stage, reason, outcome, and rows in the batch."""

    stage: str
    reason: str
    outcome: int
    rows: list[int]


class EventBatch(msgspec.Struct, frozen=True):
    """A batch: `events` events as columns, each of shape `(events, ...)`.

    A stage returns a new batch with more columns; nothing mutates across a stage boundary.

    Attributes
    ----------
    columns
        Name to array, or to `Ragged`. Arrays may be views of reused buffers, valid until the
        next batch.
    events
        Number of events, the leading axis of every column.
    seq
        Sequence number in the run, assigned by ingest.
    flags
        Stage, reason, outcome and rows of events without a decision.
    """

    columns: Mapping[str, Any]
    events: int
    seq: int = 0
    flags: tuple[Flag, ...] = ()

    def __getitem__(self, name: str) -> Array:
        array: Array = self.columns[name]
        return array

    def ragged(self, name: str) -> Ragged:
        """Return a ragged column."""
        lists: Ragged = self.columns[name]
        return lists

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def with_columns(self, **columns: Array | Ragged) -> EventBatch:
        """Return this batch with columns added or replaced."""
        return EventBatch({**self.columns, **columns}, self.events, self.seq, self.flags)

    def select(self, names: Iterable[str]) -> EventBatch:
        """Return this batch with only the columns named."""
        columns = self.columns
        return EventBatch({n: columns[n] for n in names}, self.events, self.seq, self.flags)

    def take(self, rows: Array) -> EventBatch:
        """Return the events at the indices `rows`, copied; flags are dropped."""
        kept = {name: array.take(rows, axis=0) for name, array in self.columns.items()}
        return EventBatch(kept, len(rows), self.seq)

    def slice(self, start: int, stop: int) -> EventBatch:
        """Return events `start` to `stop` as views; flags are dropped."""
        kept = {name: array[start:stop] for name, array in self.columns.items()}
        return EventBatch(kept, max(0, min(stop, self.events) - start), self.seq)

    def replace_rows(self, rows: Array, values: EventBatch) -> EventBatch:
        """Return this batch with the one event of `values` at each of `rows`, in its columns."""
        if len(rows) == 0 or not values.columns:
            return self
        sources = np.arange(self.events)
        sources[rows] = self.events
        own = self.select(values.columns)
        return self.with_columns(**concatenate((own, values)).take(sources).columns)

    def flag(
        self, stage: str, reason: str, rows: Array, outcome: Outcome = Outcome.INVALID
    ) -> EventBatch:
        """Return this batch with the events at `rows` marked for `reason`, invalid or failed."""
        if len(rows) == 0:
            return self
        outcomes = self.columns[OUTCOME.name].copy()
        outcomes[rows] = outcome
        columns = {**self.columns, OUTCOME.name: outcomes}
        flags = (*self.flags, Flag(stage, reason, outcome, rows.tolist()))
        return EventBatch(columns, self.events, self.seq, flags)

    def check(self, schema: Schema, where: str) -> None:
        """Compare the actual arrays with a schema.

        Raises
        ------
        DataError
            If a column differs; the message has `where`, the column, what was expected and found.
        """
        for name, dtype, shape in schema.specs:
            array = self.columns.get(name)
            if array is None:
                raise DataError(
                    f"{where}: column {name!r}: expected {schema[name].spec}, got no such column",
                    hint=f"columns here: {', '.join(self.columns)}",
                )
            if array.shape == (self.events, *shape) and array.dtype == dtype:
                continue
            if array.dtype != dtype or array.shape[1:] != shape:
                got = Column("", str(array.dtype), array.shape[1:]).spec
                raise DataError(
                    f"{where}: column {name!r}: expected {schema[name].spec}, got {got}"
                )
            raise DataError(
                f"{where}: column {name!r}: expected {self.events} events, got {len(array)}"
            )


def concatenate(
    batches: Iterable[EventBatch], arenas: hugepages.ArenaPool | None = None
) -> EventBatch:
    """Join batches of the same columns, in order; the result has the number of the first batch.

    The joined columns are allocated in an arena of `arenas`, if given.
    """
    parts = list(batches)
    if len(parts) == 1:
        return parts[0]
    whole = {name: [part.columns[name] for part in parts] for name in parts[0].columns}
    plain = [arrays for arrays in whole.values() if type(arrays[0]) is not Ragged]
    size = sum(hugepages.padded_size(sum(array.nbytes for array in arrays)) for arrays in plain)
    empty = arenas.get(size).empty if arenas else np.empty
    columns = {name: _join(arrays, empty) for name, arrays in whole.items()}
    return EventBatch(columns, sum(part.events for part in parts), parts[0].seq)


def _join(arrays: Sequence[Any], empty: Callable[..., Array]) -> Any:
    first = arrays[0]
    if type(first) is Ragged:
        return concatenate_ragged(arrays)
    events = sum(len(array) for array in arrays)
    return np.concatenate(arrays, out=empty((events, *first.shape[1:]), first.dtype))
