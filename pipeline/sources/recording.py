"""The source ``recording``: events of a recording, in batches of the size asked for.

Arrow data of another program is read as the source ``arrow`` reads it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import partial
from glob import has_magic
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

from .base import NONE, UNLIMITED, Available, Losses, Rejected, now_for, within_limits
from .prefetch import Chunk, Prefetcher, chunk_events
from .rebatching import Rebatcher
from .tables.arrow import ArrowTable, is_foreign
from .tables.files import find_inputs
from .tables.reader import TableReader

#: Recordings of at least this many chunks get arenas whose pages are touched before the run: that
#: takes milliseconds. As many arenas as chunks can be in use at a time.
_MIN_CHUNKS, _ARENAS = 16, 7
#: Recorded batches of this many times the wanted events are not joined: to split them costs less.
_UNJOINED_BATCHES = 4


class RecordingSource:
    """Reads one recording, once or several times."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Path of the recording, and how often it is read."""

        #: A file; of a rotated recording the first file, their folder, or a pattern.
        path: str
        #: Number of times that it is read, one after the other: the same events, ids included.
        repeat: Annotated[int, Meta(ge=1)] = 1

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._path = Path(options.path)
        self._repeat = options.repeat
        self.schema = Schema()
        self.expected: int | None = None
        self.socket: Socket | None = None
        self._next_id = 0
        self._unjoined_events = math.inf
        self._arenas = ArenaPool()
        self._losses = Losses()
        self._foreign: TableReader | None = None
        self._prefetcher = Prefetcher(self._chunks(), self._reject)

    @property
    def exhausted(self) -> bool:
        """Whether all events were read."""
        return self._prefetcher.exhausted

    @property
    def corruption(self) -> str | None:
        """Description of the damage of the recording; None if none was found so far."""
        return self._prefetcher.corruption

    def open(self) -> None:
        """Open the file, or the first; DataError if it is no recording or a file is missing."""
        if (foreign := _foreign_files(self._path)) is not None:
            self._open_foreign(foreign)
            return
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

    def _open_foreign(self, path: str) -> None:
        """Open Arrow data without a begin-of-run record."""
        self._foreign = TableReader(path, ArrowTable, {})
        self._foreign.open()
        self.schema = self._recorded = self._foreign.schema

    def select_columns(self, names: Collection[str], events: int) -> None:
        """Begin to read; recorded batches that are large compared with `events` are not joined.

        All columns of a recording are read: an event that is put into quarantine keeps them.
        """
        if self._foreign is not None:
            self._foreign.select(names)
            self._prefetcher.start()
            return
        self._unjoined_events = _UNJOINED_BATCHES * events
        size, event_bytes = self._chunk_size()
        if self._unjoined_events > size and self.expected and self.expected >= _MIN_CHUNKS * size:
            self._arenas.preallocate(_ARENAS, size * event_bytes)
        self._prefetcher.start()

    def receive(self) -> None:
        """Do nothing: a file has no socket."""

    def available(self) -> Available:
        """Return that any batch can be full: a file can always be read."""
        return NONE if self.exhausted else UNLIMITED

    def read(self, max_events: int) -> EventBatch | None:
        """Return the next `max_events` events, fewer only at the end."""
        batch = self._prefetcher.read(max_events)
        return None if batch is None else self._with_reserved_columns(batch)

    def stop(self) -> None:
        """Read no further."""
        self._prefetcher.stop()

    def losses(self) -> Losses:
        """Return the events whose lists are too long since the last call."""
        losses, self._losses = self._losses, Losses()
        return losses

    def close(self) -> None:
        """Close the file."""
        self._prefetcher.close()
        (self._foreign or self._reader).close()

    def _reject(self, rejected: list[Rejected]) -> None:
        for one in rejected:
            self._losses.reject(one)

    def _chunks(self) -> Iterator[Chunk]:
        """Yield recorded batches joined to chunks; events with too long lists are rejected."""
        if self._foreign is not None:
            for _ in range(self._repeat):
                yield from self._foreign.chunks()
            return
        recorded, first = self._recorded_batches(), 0
        rebatcher = Rebatcher(lambda: next(recorded, None), self._unjoined_events, self._arenas)
        size, _ = self._chunk_size()
        while (batch := rebatcher.read(size)) is not None:
            start, first = first, first + batch.events
            if self.schema.ragged:
                yield Chunk(*within_limits(batch, self._recorded, partial(self._where, start)))
            else:
                yield Chunk(batch, [])

    def _where(self, first: int, row: int) -> str:
        return f"{self._path.name}: event {first + row}"

    def _chunk_size(self) -> tuple[int, int]:
        """Return the number of events of a chunk, and the size of an event, bytes."""
        event_bytes = sum(column.item_bytes for column in self._recorded)
        return chunk_events(event_bytes), event_bytes

    def _recorded_batches(self) -> Iterator[EventBatch]:
        """Yield the batches of all repetitions; DataError if the recording is damaged."""
        for turn in range(self._repeat):
            if turn:
                self._reader.close()
                self._reader = Recording(self._path)
            empty = True
            try:
                for batch in self._reader.batches():
                    empty = False
                    yield batch
            except DataError as error:
                raise DataError(f"{self._path}: {error.message}", error.hint) from error
            if self._reader.corruption:
                raise DataError(self._reader.corruption)
            if empty:
                return

    def _with_reserved_columns(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `t_ingest`, and with `event_id` and `t_event` if not recorded."""
        first = self._next_id
        self._next_id += batch.events
        columns = {T_INGEST.name: now_for(batch.events)}
        if EVENT_ID.name not in self._recorded:
            columns[EVENT_ID.name] = np.arange(first, first + batch.events, dtype=np.uint64)
        if T_EVENT.name not in self._recorded:
            columns[T_EVENT.name] = np.zeros(batch.events, np.int64)
        return batch.with_columns(**columns)


def _foreign_files(path: Path) -> str | None:
    """Return the path or pattern of Arrow files of another program; None for a recording."""
    pattern = str(path / "*.arrow*") if path.is_dir() else str(path)
    if not (path.is_file() or has_magic(pattern)):  # a pipe can be read only once
        return None
    with suppress(DataError):  # no such files: the recording says so
        return pattern if is_foreign(find_inputs(pattern)[0]) else None
    return None
