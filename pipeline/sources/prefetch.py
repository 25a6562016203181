"""Reading ahead: the next chunk is read while this one is judged, then cut to any size."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from math import inf
from queue import SimpleQueue
from typing import Generic, TypeVar

import numpy as np

from sluice.pipeline.core.batch import EventBatch, concatenate
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.hugepages import ArenaPool
from sluice.pipeline.core.ragged import Ragged

T = TypeVar("T")

#: Aim of one chunk that is read ahead.
_CHUNK_BYTES = 16 << 20
_MOST_EVENTS = 65_536
#: Chunks that are read while one is judged.
_AHEAD = 2

#: Of the items of ragged columns in one batch: no message may be longer than four times that.
_MOST_BYTES = 1 << 26


class Prefetcher(Generic[T]):
    """Takes items from an iterator before they are asked for, in a thread.

    Parameters
    ----------
    items
        Only the thread touches it from now on.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        # To wake a thread is half of what a future takes.
        self._wanted: SimpleQueue[bool] = SimpleQueue()
        self._taken: SimpleQueue[tuple[T | None, Exception | None]] = SimpleQueue()
        self._end: tuple[None, Exception | None] | None = None
        for _ in range(_AHEAD):
            self._wanted.put(True)
        self._closing = False
        self._thread = threading.Thread(target=self._read, name="sluice-reader", daemon=True)
        self._thread.start()

    def next(self) -> T | None:
        """Return the next item, None at the end; raises what the iterator raised."""
        item, error = self._end or self._taken.get()
        if item is None:
            self._end = (None, error)
        else:
            self._wanted.put(True)
        if error is not None:
            raise error
        return item

    def close(self) -> None:
        """Wait for the thread and end it."""
        self._closing = True
        self._wanted.put(False)
        self._thread.join()

    def _read(self) -> None:
        while self._wanted.get() and not self._closing:
            try:
                item, error = next(self._items, None), None
            except Exception as raised:  # whatever it is, who asks for the item is to have it
                item, error = None, raised
            self._taken.put((item, error))
            if item is None:
                return


def chunk_events(event_bytes: int) -> int:
    """Return how many events of that size make a chunk."""
    return min(_MOST_EVENTS, max(1, _CHUNK_BYTES // max(1, event_bytes)))


def rebatch(
    batches: Iterator[EventBatch], events: int, large: float = inf, loans: ArenaPool | None = None
) -> Iterator[EventBatch]:
    """Join and cut batches to chunks of so many events; what `batches` raises comes last.

    A batch of `large` events or more is joined with none. What is joined lies in rooms of `loans`.
    """
    failure: list[DataError] = []

    def following() -> EventBatch | None:
        try:
            return next(batches, None)
        except DataError as error:
            failure.append(error)
            return None

    portions = Rebatcher(following, loans)
    while (there := portions.peek()) is not None:
        chunk = portions.take(min(events, there.events) if there.events >= large else events)
        if chunk is not None:
            yield chunk
    for error in failure:
        raise error


class Rebatcher:
    """Batches as they come, joined and cut to portions of any size.

    Parameters
    ----------
    following
        Returns the next batch, None at the end.
    loans
        Where joined batches lie.
    """

    def __init__(
        self, following: Callable[[], EventBatch | None], loans: ArenaPool | None = None
    ) -> None:
        self._following, self._loans = following, loans
        #: What was cut off the last portion.
        self.held: EventBatch | None = None

    def peek(self) -> EventBatch | None:
        """Return the batch with the next events, None after the last; it is held."""
        while self.held is None or not self.held.events:
            self.held = self._following()
            if self.held is None:
                break
        return self.held

    def take(self, most: int) -> EventBatch | None:
        """Return the next `most` events; None after the last.

        Fewer only at the end, or where the lists of so many are too long for a message.
        """
        parts: list[EventBatch] = []
        wanted, room = most, _MOST_BYTES
        while wanted:
            part = self.peek()
            if part is None:
                break
            taken = min(wanted, part.events)
            fitting, used = fitting_events(part, taken, room)
            if fitting < taken:
                taken, wanted = max(fitting, 0 if parts else 1), 0
            self.held = part.slice(taken, part.events) if part.events > taken else None
            if taken:
                parts.append(part.slice(0, taken))
            wanted, room = max(0, wanted - taken), room - used
        return concatenate(parts, self._loans) if parts else None

    def drop(self) -> None:
        """Forget what was read and not given."""
        self.held = None


def fitting_events(batch: EventBatch, events: int, room: int) -> tuple[int, int]:
    """Return how many of the first `events` have lists that fit into `room` bytes, and the bytes.

    The bytes are those of all these events.
    """
    used = np.zeros(0, np.int64)
    for column in batch.columns.values():
        if type(column) is Ragged:
            offsets = column.offsets[: events + 1]
            ends = (offsets[1:] - offsets[0]) * column.item_bytes
            used = used + ends if len(used) else ends
    if not len(used):
        return events, 0
    return int(np.searchsorted(used, room, side="right")), int(used[-1])
