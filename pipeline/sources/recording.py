"""Events from a recording, in batches of the size asked for."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.hugepages import ArenaPool
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, T_INGEST, Schema
from sluice.pipeline.recording import Recording
from sluice.pipeline.transport.socket import Socket

from .base import NONE, UNLIMITED, Available, Losses, now_for, within_limits
from .prefetch import Prefetcher, Rebatcher, chunk_events, rebatch

#: So many chunks are worth rooms that are touched before the first event; so many are under way.
_MANY, _ROOMS = 16, 7
#: Recorded batches of so many wanted ones are not joined: to cut them costs less.
_LARGE = 4


class RecordingSource:
    """Replays one recording; see `Source`."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Which recording."""

        #: A file; the first part of several, their folder, or a pattern.
        path: str
        #: Read it so many times, one after the other: the same events, ids included.
        repeat: Annotated[int, Meta(ge=1)] = 1

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._path = Path(options.path)
        self._repeat = options.repeat
        self._read = 0
        self.schema = Schema()
        self.exhausted = False
        self.corruption: str | None = None
        self.expected: int | None = None
        self.socket: Socket | None = None
        self._next_id = self._given = 0
        self._losses = Losses()

    def open(self) -> None:
        """Open the file, or the first; DataError if it is no recording or a part is missing."""
        self._reader = Recording(self._path)
        self._recorded = self._reader.schema
        for column in (EVENT_ID, T_EVENT):
            if column.name in self._recorded and self._recorded[column.name].spec != column.spec:
                got = self._recorded[column.name].spec
                raise DataError(
                    f"{self._path}: column {column.name!r}: expected {column.spec}, got {got}"
                )
        self.schema = self._recorded.merge((EVENT_ID, T_EVENT, T_INGEST))
        events = self._reader.bor.get("events")
        self.expected = events * self._repeat if isinstance(events, int) else None
        self._large = math.inf
        self._loans = ArenaPool()
        self._ahead: Prefetcher[EventBatch] | None = None
        self._portions = Rebatcher(self._next)

    def select_columns(self, names: Collection[str], events: int) -> None:
        """Join no recorded batches that are large beside `events`; see `SelectsColumns`.

        All columns are read: an event that is put into quarantine has them.
        """
        self._large = _LARGE * events
        most, event_bytes = self._chunk()
        if self._large > most and self.expected and self.expected >= _MANY * most:
            self._loans.preallocate(_ROOMS, most * event_bytes)
        self._ahead = self._begin()

    def receive(self) -> None:
        """Nothing comes by socket."""

    def available(self) -> Available:
        """Return all there is: a file can always be read."""
        return NONE if self.exhausted else UNLIMITED

    def read(self, most: int) -> EventBatch | None:
        """Return the next `most` events, fewer only at the end."""
        batch = None if self.exhausted else self._portions.take(most)
        return None if batch is None else self._complete(batch)

    def stop(self) -> None:
        """Read no further."""
        self.exhausted = True
        self._portions.drop()

    def losses(self) -> Losses:
        """Return and forget the events with too long lists; what is lacking was never offered."""
        losses, self._losses = self._losses, Losses()
        return losses

    def close(self) -> None:
        """Close the file."""
        if self._ahead is not None:
            self._ahead.close()
        self._reader.close()

    def _next(self) -> EventBatch | None:
        """Return the next recorded batch; at the end, or where the file is damaged, None."""
        try:
            if self._ahead is None:
                self._ahead = self._begin()
            part = self._ahead.next()
        except DataError as error:
            part, self.corruption = None, f"{self._path}: {error.message}"
        if part is None:
            self.exhausted = True
            self.corruption = self.corruption or self._reader.corruption
        elif self.schema.ragged:
            first, name = self._given, self._path.name
            self._given += part.events
            part, refused = within_limits(
                part, self._recorded, lambda r: f"{name}: event {first + r}"
            )
            for rejected in refused:
                self._losses.reject(rejected)
        return part

    def _begin(self) -> Prefetcher[EventBatch]:
        """Decompress and join what comes while what came is judged, from now on."""
        most, _ = self._chunk()
        return Prefetcher(rebatch(self._repeated(), most, self._large, self._loans))

    def _chunk(self) -> tuple[int, int]:
        """Return how many events make a chunk, and the bytes of one."""
        size = sum(column.item_bytes for column in self._recorded)
        return chunk_events(size), size

    def _repeated(self) -> Iterator[EventBatch]:
        for turn in range(self._repeat):
            if turn:
                self._reader.close()
                self._reader = Recording(self._path)
            before = self._read
            for batch in self._reader.batches():
                self._read += 1
                yield batch
            if self._reader.corruption or self._read == before:
                return

    def _complete(self, batch: EventBatch) -> EventBatch:
        """Add the reserved columns that the recording does not have."""
        first = self._next_id
        self._next_id += batch.events
        columns = {T_INGEST.name: now_for(batch.events)}
        if EVENT_ID.name not in self._recorded:
            columns[EVENT_ID.name] = np.arange(first, first + batch.events, dtype=np.uint64)
        if T_EVENT.name not in self._recorded:
            columns[T_EVENT.name] = np.zeros(batch.events, np.int64)
        return batch.with_columns(**columns)
