"""Rebatching: incoming batches are joined and split to any number of events."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np

from sluice.pipeline.core.batch import EventBatch, concatenate
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.hugepages import ArenaPool
from sluice.pipeline.core.ragged import Ragged

#: Bytes of the lists in one batch: a quarter of the largest message.
_MAX_LIST_BYTES = 1 << 26


class Rebatcher:
    """Joins and splits batches.

    Parameters
    ----------
    next_batch
        Returns the next batch, None while there is none. A DataError that it raises is raised
        after all events before it were returned.
    unjoined_events
        A batch with this many events left, or more, is joined with none: it is not copied.
    arenas
        Memory for joined batches; NumPy's if None.

    Attributes
    ----------
    held
        Events of the last batch that were not returned yet.
    """

    def __init__(
        self,
        next_batch: Callable[[], EventBatch | None],
        unjoined_events: float = inf,
        arenas: ArenaPool | None = None,
    ) -> None:
        self._next_batch, self._unjoined_events, self._arenas = next_batch, unjoined_events, arenas
        self.held: EventBatch | None = None
        self._error: DataError | None = None

    def read(self, max_events: int) -> EventBatch | None:
        """Return the next `max_events` events; None if there are none.

        Fewer only at the end, before a batch that is not joined, or where their lists would be
        longer than a message may be.
        """
        first = self._fill()
        if first is None:
            if self._error is not None:
                raise self._error
            return None
        if first.events >= self._unjoined_events:
            max_events = min(max_events, first.events)
        pieces: list[EventBatch] = []
        wanted, free_bytes = max_events, _MAX_LIST_BYTES
        while wanted and (batch := self._fill()) is not None:
            events = min(wanted, batch.events)
            fitting, used = _fitting_events(batch, events, free_bytes)
            if fitting < events:
                events, wanted = max(fitting, 0 if pieces else 1), 0
            self.held = batch.slice(events, batch.events) if batch.events > events else None
            if events:
                pieces.append(batch.slice(0, events))
            wanted, free_bytes = max(0, wanted - events), free_bytes - used
        return concatenate(pieces, self._arenas) if pieces else None

    def drop(self) -> None:
        """Drop the events that were not returned yet."""
        self.held = None

    def _fill(self) -> EventBatch | None:
        """Return the batch with the next events, held; None if there is none."""
        while self._error is None and (self.held is None or not self.held.events):
            try:
                self.held = self._next_batch()
            except DataError as error:
                self.held, self._error = None, error
            if self.held is None:
                break
        return self.held


def _fitting_events(batch: EventBatch, events: int, max_bytes: int) -> tuple[int, int]:
    """Return how many of the first `events` events have lists that fit into `max_bytes` bytes.

    And the bytes of the lists of all these events.
    """
    used = np.zeros(0, np.int64)
    for column in batch.columns.values():
        if type(column) is Ragged:
            offsets = column.offsets[: events + 1]
            ends = (offsets[1:] - offsets[0]) * column.item_bytes
            used = used + ends if len(used) else ends
    if not len(used):
        return events, 0
    return int(np.searchsorted(used, max_bytes, side="right")), int(used[-1])
