"""Prefetching: the next chunks of a file are read while the engine works on earlier ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import NamedTuple

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError

from .base import Rejected
from .rebatching import Rebatcher

#: Size of a chunk, and its maximum number of events.
_CHUNK_BYTES = 16 << 20
_MAX_CHUNK_EVENTS = 65_536
#: Chunks that are read before they are asked for.
_CHUNKS_AHEAD = 2


class Chunk(NamedTuple):
    """Events that are read from a file at once, and its rejected events."""

    batch: EventBatch
    rejected: list[Rejected]


class Prefetcher:
    """Reads the chunks of a file in a thread, and returns them in batches of any size.

    Parameters
    ----------
    chunks
        The chunks, in order; a DataError that it raises ends the input. It is used in the thread
        only.
    reject
        Called with the rejected events of each chunk when its first event is read.

    Attributes
    ----------
    exhausted
        Whether all chunks were read, or the input was stopped.
    corruption
        Message of the DataError at the end of the input, None without one.
    """

    def __init__(self, chunks: Iterator[Chunk], reject: Callable[[list[Rejected]], None]) -> None:
        self._chunks, self._reject = chunks, reject
        self.exhausted = False
        self.corruption: str | None = None
        self._rebatcher = Rebatcher(self._next_batch)
        # Queues, not futures: waking a thread by a queue takes half the time.
        self._requests: SimpleQueue[bool] = SimpleQueue()
        self._results: SimpleQueue[tuple[Chunk | None, Exception | None]] = SimpleQueue()
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to read ahead; the first `read` does so too."""
        if self._thread is None:
            for _ in range(_CHUNKS_AHEAD):
                self._requests.put(True)
            self._thread = threading.Thread(target=self._run, name="sluice-reader", daemon=True)
            self._thread.start()

    def read(self, max_events: int) -> EventBatch | None:
        """Return the next `max_events` events, fewer at the end, then None."""
        return None if self.exhausted else self._rebatcher.read(max_events)

    def stop(self) -> None:
        """Read no further; events that were not returned are dropped."""
        self.exhausted = True
        self._rebatcher.drop()

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._closing = True
        if self._thread is not None:
            self._requests.put(False)
            self._thread.join()

    def _next_batch(self) -> EventBatch | None:
        """Return the next chunk's events, None at the end; raise the exception of the thread."""
        if self.exhausted:
            return None
        self.start()
        chunk, error = self._results.get()
        if isinstance(error, DataError):
            self.corruption = error.message
        elif error is not None:
            self._results.put((None, error))  # for the next call: the thread has ended
            raise error
        if chunk is None:
            self.exhausted = True
            return None
        self._requests.put(True)
        self._reject(chunk.rejected)
        return chunk.batch

    def _run(self) -> None:
        while self._requests.get() and not self._closing:
            try:
                chunk, error = next(self._chunks, None), None
            except Exception as raised:  # any exception is raised again in the thread that reads
                chunk, error = None, raised
            self._results.put((chunk, error))
            if chunk is None:
                return


def chunk_events(event_bytes: int) -> int:
    """Return the number of events of a chunk, for events of `event_bytes` bytes."""
    return min(_MAX_CHUNK_EVENTS, max(1, _CHUNK_BYTES // max(1, event_bytes)))
