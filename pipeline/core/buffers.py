"""Output arrays of stages, used again from batch to batch, and the check of what a stage gives."""

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
        One array a column.
    events
        Room for this many events, on huge pages; a larger batch makes the arrays grow.
    """

    def __init__(self, schema: Schema, events: int) -> None:
        self._schema = schema
        self._room = events
        self._arrays = self._views = [
            column.empty(events)
            if column.ragged
            else hugepages.allocate((events, *column.item_shape), column.dtype)
            for column in schema
        ]
        self._events = events

    def arrays(self, events: int) -> list[Array]:
        """Return the first `events` rows of each array, in the schema's order.

        The same objects as before for as many events, so that what has checked them knows them.
        """
        if events == self._events:
            return self._views
        if events > self._room:
            self._arrays, self._room = [column.empty(events) for column in self._schema], events
        self._views, self._events = [array[:events] for array in self._arrays], events
        return self._views


class ColumnCheck:
    """Checks the columns that a stage gives; arrays that it gives again pass at a glance.

    Parameters
    ----------
    schema, where
        See `EventBatch.check`.
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
