"""Events with lists that wait for a worker: messages as they came, cut to batches at need."""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from ..batch import EventBatch
from ..schema import T_INGEST
from .ahead import Portions

#: Bytes of waiting messages beyond which nothing more is taken.
_MOST_BYTES = 1 << 30


class ListBacklog:
    """Batches of events whose size varies; see `LiveSource`.

    Attributes
    ----------
    events
        That wait.
    """

    def __init__(self) -> None:
        self._messages: deque[EventBatch] = deque()
        self._portions = Portions(self._following)
        self._bytes = 0
        self.events = 0

    @property
    def full(self) -> bool:
        """Whether there are as many bytes as may be."""
        return self._bytes >= _MOST_BYTES

    @property
    def oldest_ns(self) -> int:
        """`t_ingest` of the oldest event; there must be one."""
        held = self._portions.held
        return int((held or self._messages[0])[T_INGEST.name][0])

    def add(self, batch: EventBatch) -> None:
        """Put events behind those that wait."""
        if batch.events:
            arrived = np.full(batch.events, time.monotonic_ns())
            self._messages.append(batch.with_columns(**{T_INGEST.name: arrived}))
            self.events += batch.events
            self._bytes += _size(batch)

    def take(self, most: int) -> EventBatch | None:
        """Return the oldest events, None if there are none."""
        batch = self._portions.take(most)
        self.events -= batch.events if batch is not None else 0
        return batch

    def _following(self) -> EventBatch | None:
        if not self._messages:
            return None
        batch = self._messages.popleft()
        self._bytes -= _size(batch)
        return batch


def _size(batch: EventBatch) -> int:
    """Return the bytes of a batch but `t_ingest`; what is cut off later counts till then."""
    columns = (array for name, array in batch.columns.items() if name != T_INGEST.name)
    return sum(getattr(array, "items", array).nbytes for array in columns)
