"""Output arrays of stages, reused from batch to batch, and the check of a stage's output."""

from __future__ import annotations

from typing import Any

from sluice.pipeline.core import hugepages

from .batch import EventBatch
from .schema import Array, Schema


class OutputBuffers:
    """Output arrays of a stage, allocated once and reused from batch to batch.

    Parameters
    ----------
    schema
        Columns; one array is allocated for each.
    events
        Number of events to allocate memory for; for a larger batch new arrays are allocated.
    """

    def __init__(self, schema: Schema, events: int) -> None:
        self._schema = schema
        self._capacity = events
        self._arrays = self._views = [
            column.empty(events)
            if column.ragged
            else hugepages.allocate((events, *column.item_shape), column.dtype)
            for column in schema
        ]
        self._events = events

    def arrays(self, events: int) -> list[Array]:
        """Return the first `events` rows of each array, in the schema's order.

        Two calls with the same number return the same objects, which `ColumnCheck` recognises.
        """
        if events == self._events:
            return self._views
        if events > self._capacity:
            self._arrays, self._capacity = [column.empty(events) for column in self._schema], events
        self._views, self._events = [array[:events] for array in self._arrays], events
        return self._views


class ColumnCheck:
    """Checks the columns of a stage's batches; arrays that passed before are not checked again.

    Parameters
    ----------
    schema
        Columns that a batch must have.
    where
        Name of the stage, for error messages.
    """

    def __init__(self, schema: Schema, where: str) -> None:
        self._schema, self._where = schema, where
        self._passed: list[tuple[str, Any]] = []
        self._events = -1

    def check(self, batch: EventBatch) -> None:
        """Raise DataError if the batch does not have the columns."""
        columns = batch.columns
        if batch.events == self._events:
            for name, array in self._passed:
                if columns.get(name) is not array:
                    break
            else:
                return
        batch.check(self._schema, self._where)
        self._passed = [(name, columns[name]) for name in self._schema.names]
        self._events = batch.events
