"""Events that wait for a worker: packed records in one block; with lists, messages as they came."""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import T_INGEST, Schema
from sluice.pipeline.sources.rebatching import Rebatcher
from sluice.pipeline.transport.codec import record_dtype

#: Bytes of waiting messages beyond which nothing more is taken.
_MAX_BYTES = 1 << 30


class RecordBacklog:
    """Events of one size, appended byte by byte; see `LiveSource`.

    Parameters
    ----------
    record
        Columns of an event.
    max_events
        Events that may wait; there is memory for twice as many, so that closing up is rare, and
        for what must not be shed.

    Attributes
    ----------
    events
        That wait.
    capacity
        Events that fit.
    """

    def __init__(self, record: Schema, max_events: int) -> None:
        self._names = record.names
        self._max_events, self.capacity = max_events, 2 * max_events
        dtype = record_dtype(record)
        self._size = dtype.itemsize
        self._records = np.empty(self.capacity, dtype)
        #: The memory of all records.
        self.block = self._records.view(np.uint8)
        self._bytes = self.block.data
        self._arrived = np.empty(self.capacity, np.int64)
        self._start = self.events = 0

    @property
    def free_events(self) -> int:
        """How many more events may wait."""
        return max(0, self._max_events - self.events)

    @property
    def oldest_ns(self) -> int:
        """`t_ingest` of the oldest event; there must be one."""
        return int(self._arrived[self._start])

    def add(self, records: memoryview, events: int) -> None:
        """Copy packed records behind those that wait; they fit, see `capacity`."""
        first, size = self._start + self.events, self._size
        if first + events > self.capacity:
            first = self._compact()
        stop = first + events
        self._bytes[first * size : stop * size] = records[: events * size]
        self._arrived[first:stop] = time.monotonic_ns()
        self.events += events

    @property
    def free_range(self) -> tuple[int, int]:
        """Record of `block` behind those that wait, and how many fit there without closing up."""
        first = self._start + self.events
        return first, min(self.free_events, self.capacity - first)

    def commit(self, events: int, now_ns: int) -> None:
        """Note that so many records were written into the gap."""
        first = self._start + self.events
        self._arrived[first : first + events] = now_ns
        self.events += events

    def take(self, max_events: int) -> EventBatch | None:
        """Return the oldest events, None if there are none."""
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
        """Move what waits to the front of the memory; return where it ends."""
        start, stop = self._start, self._start + self.events
        self._records[: self.events] = self._records[start:stop].copy()
        self._arrived[: self.events] = self._arrived[start:stop].copy()
        self._start = 0
        return self.events


class RaggedBacklog:
    """Batches of events whose size varies; see `LiveSource`.

    Parameters
    ----------
    max_events
        Events that may wait.

    Attributes
    ----------
    events
        That wait.
    capacity
        Events that fit, with those that must not be shed.
    """

    def __init__(self, max_events: int) -> None:
        self._max_events, self.capacity = max_events, 2 * max_events
        self._messages: deque[EventBatch] = deque()
        self._rebatcher = Rebatcher(self._next_message)
        self._bytes = 0
        self.events = 0

    @property
    def free_events(self) -> int:
        """How many more events may wait; none if there are as many bytes as may be."""
        return 0 if self._bytes >= _MAX_BYTES else max(0, self._max_events - self.events)

    @property
    def oldest_ns(self) -> int:
        """`t_ingest` of the oldest event; there must be one."""
        held = self._rebatcher.held
        return int((held or self._messages[0])[T_INGEST.name][0])

    def add(self, batch: EventBatch) -> None:
        """Put events behind those that wait."""
        if batch.events:
            arrived = np.full(batch.events, time.monotonic_ns())
            self._messages.append(batch.with_columns(**{T_INGEST.name: arrived}))
            self.events += batch.events
            self._bytes += _size(batch)

    def take(self, max_events: int) -> EventBatch | None:
        """Return the oldest events, None if there are none."""
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
    """Return the bytes of a batch without `t_ingest`; of a batch that is split, of the whole."""
    return sum(array.nbytes for name, array in batch.columns.items() if name != T_INGEST.name)
