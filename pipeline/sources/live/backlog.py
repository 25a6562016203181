"""Backlogs of an ingest socket: packed records in one block, or whole messages with lists."""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import T_INGEST, Schema
from sluice.pipeline.sources.rebatching import Rebatcher
from sluice.pipeline.transport.codec import record_dtype

#: Maximum size of the waiting events, bytes; when it is reached, events are shed.
_MAX_BYTES = 1 << 30


class RecordBacklog:
    """Waiting events of fixed size, as packed records in one block of memory.

    Parameters
    ----------
    record
        Columns of a record.
    max_events
        Number of events that may wait before others are shed; fewer, if these have 1 GiB. The block
        has memory for twice as many: for events that must not be shed, and so that records are
        rarely moved to the front.

    Attributes
    ----------
    events
        Number of waiting events.
    capacity
        Number of events that the block can hold.
    block
        The memory of all records, uint8 (capacity × record size,).
    """

    def __init__(self, record: Schema, max_events: int) -> None:
        self._names = record.names
        dtype = record_dtype(record)
        self._size = dtype.itemsize
        self._max_events = min(max_events, max(1, _MAX_BYTES // self._size))
        self.capacity = 2 * self._max_events
        self._records = np.empty(self.capacity, dtype)
        self.block = self._records.view(np.uint8)
        self._bytes = self.block.data
        self._arrived = np.empty(self.capacity, np.int64)
        self._start = self.events = 0

    @property
    def free_events(self) -> int:
        """Number of events that can be added before others are shed."""
        return max(0, self._max_events - self.events)

    @property
    def fill(self) -> float:
        """Fill level: from 1 on events are shed."""
        return self.events / self._max_events

    @property
    def oldest_ns(self) -> int:
        """`t_ingest` of the oldest event, ns; the backlog must not be empty."""
        return int(self._arrived[self._start])

    def add(self, records: memoryview, events: int) -> None:
        """Append packed records, at most `capacity` minus `events` of them."""
        first, size = self._start + self.events, self._size
        if first + events > self.capacity:
            first = self._compact()
        stop = first + events
        self._bytes[first * size : stop * size] = records[: events * size]
        self._arrived[first:stop] = time.monotonic_ns()
        self.events += events

    @property
    def free_range(self) -> tuple[int, int]:
        """Index of the first free record in `block`, and how many records fit from there on."""
        first = self._start + self.events
        return first, min(self.free_events, self.capacity - first)

    def commit(self, events: int, now_ns: int) -> None:
        """Add `events` records that were written to `free_range`, with `t_ingest` of `now_ns`."""
        first = self._start + self.events
        self._arrived[first : first + events] = now_ns
        self.events += events

    def take(self, max_events: int) -> EventBatch | None:
        """Remove and return up to `max_events` of the oldest events; None if there are none."""
        events = min(max_events, self.events)
        if not events:
            return None
        stop = self._start + events
        taken = self._records[self._start : stop]
        columns = {name: np.ascontiguousarray(taken[name]) for name in self._names}
        columns[T_INGEST.name] = self._arrived[self._start : stop].copy()
        self.events -= events
        self._start = stop if self.events else 0
        return EventBatch(columns, events)

    def _compact(self) -> int:
        """Move the waiting records to the front of the block; return the index behind them."""
        start, stop = self._start, self._start + self.events
        self._records[: self.events] = self._records[start:stop].copy()
        self._arrived[: self.events] = self._arrived[start:stop].copy()
        self._start = 0
        return self.events


class RaggedBacklog:
    """Waiting events with ragged columns, as batches in the order of arrival.

    Parameters
    ----------
    max_events
        Number of events that may wait before others are shed.

    Attributes
    ----------
    events
        Number of waiting events.
    capacity
        Maximum number of waiting events, including those that must not be shed.
    """

    def __init__(self, max_events: int) -> None:
        self._max_events, self.capacity = max_events, 2 * max_events
        self._messages: deque[EventBatch] = deque()
        self._rebatcher = Rebatcher(self._next_message)
        self._bytes = 0
        self.events = 0

    @property
    def free_events(self) -> int:
        """Number of events that can be added before others are shed; 0 at the limit in bytes."""
        return 0 if self._bytes >= _MAX_BYTES else max(0, self._max_events - self.events)

    @property
    def fill(self) -> float:
        """Fill level, by events or by bytes, whichever is higher: from 1 on events are shed."""
        return max(self.events / self._max_events, self._bytes / _MAX_BYTES)

    @property
    def oldest_ns(self) -> int:
        """`t_ingest` of the oldest event, ns; the backlog must not be empty."""
        held = self._rebatcher.held
        return int((held or self._messages[0])[T_INGEST.name][0])

    def add(self, batch: EventBatch) -> None:
        """Append the events of a batch, with the current time as `t_ingest`."""
        if batch.events:
            arrived = np.full(batch.events, time.monotonic_ns())
            self._messages.append(batch.with_columns(**{T_INGEST.name: arrived}))
            self.events += batch.events
            self._bytes += _size(batch)

    def take(self, max_events: int) -> EventBatch | None:
        """Remove and return up to `max_events` of the oldest events; None if there are none."""
        batch = self._rebatcher.read(max_events)
        self.events -= batch.events if batch is not None else 0
        return batch

    def _next_message(self) -> EventBatch | None:
        if not self._messages:
            return None
        batch = self._messages.popleft()
        self._bytes -= _size(batch)
        return batch


def _size(batch: EventBatch) -> int:
    """Return the size of a batch without `t_ingest`, bytes."""
    return sum(array.nbytes for name, array in batch.columns.items() if name != T_INGEST.name)
