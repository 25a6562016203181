"""Reading ahead: the next batch is read while this one is judged, then cut to any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from ..batch import EventBatch, concatenate

T = TypeVar("T")


class Ahead(Generic[T]):
    """Takes one item more from an iterator than was asked for, in a thread.

    Parameters
    ----------
    items
        Only the thread touches it from now on.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._reader = ThreadPoolExecutor(1, "sluice-reader")
        self._coming = self._reader.submit(next, items, None)

    def next(self) -> T | None:
        """Return the next item, None at the end; raises what the iterator raised."""
        item = self._coming.result()
        if item is not None:
            self._coming = self._reader.submit(next, self._items, None)
        return item

    def close(self) -> None:
        """Wait for the thread and end it."""
        self._reader.shutdown(cancel_futures=True)


class Portions:
    """Batches as they come, joined and cut to portions of any size.

    Parameters
    ----------
    following
        Returns the next batch, None at the end.
    """

    def __init__(self, following: Callable[[], EventBatch | None]) -> None:
        self._following = following
        self._held: EventBatch | None = None

    def take(self, most: int) -> EventBatch | None:
        """Return the next `most` events, fewer only at the end; None after it."""
        parts: list[EventBatch] = []
        wanted = most
        while wanted:
            part = self._held if self._held is not None else self._following()
            if part is None:
                break
            self._held = part.slice(wanted, part.events) if part.events > wanted else None
            if part.events:
                parts.append(part.slice(0, wanted))
                wanted -= parts[-1].events
        return concatenate(parts) if parts else None

    def drop(self) -> None:
        """Forget what was read and not given."""
        self._held = None
