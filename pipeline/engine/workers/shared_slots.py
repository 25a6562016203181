"""Shared memory in which batches lie while they are in flight: between processes, no copy travels.

A slot has room for one batch at each edge of the chain: on its way to a worker, from segment to
segment, and for what comes of it on its way to the sink. Ingest owns all slots: it fills one and
names it in DATA; the worker writes its result at the next edge and names the slot in RESULT; the
commit gives it back. A batch that is sent anew gets another slot,
because the worker that had it may be writing still.

Beside the slots for full batches there are small ones: at low rates batches of a few events wait
for their commit by the dozen.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import Array, Column, Schema

#: Columns begin at multiples of this: a line of the cache.
_ALIGN = 64
#: Room for the items of a ragged column, one for each event at least; longer batches travel.
_ITEMS_BYTES = 1 << 20
#: Small slots; each has this part of a full one's room.
_SMALL = 128

#: Name to an array; to room for items and their offsets where the column is ragged.
Columns = Mapping[str, Any]


class _Room(NamedTuple):
    """What a slot has room for: events, results of them, bytes of items in a ragged column."""

    events: int
    results: int
    items_bytes: int


class SharedSlots:
    """Views of the shared memory of one run, the same in every process.

    Parameters
    ----------
    path
        The file; on a file system in memory.
    edges
        Columns to the first worker, from each segment to the next, and to the sink.
    events
        Most events of a batch that fits.
    results
        Most events of what comes of a batch, at the last edge; more must travel.
    count
        How many slots; small ones, which together take as much memory as one, come on top.
    create
        Make the file: once, by ingest.

    Raises
    ------
    RunError
        If there is not enough memory for it.
    """

    def __init__(
        self,
        path: Path,
        edges: Sequence[Schema],
        events: int,
        results: int,
        count: int,
        *,
        create: bool,
    ) -> None:
        kinds = {_Room(events, results, _ITEMS_BYTES): count}
        if events >= _SMALL:
            small = events // _SMALL
            kinds[_Room(small, small, _ITEMS_BYTES // _SMALL)] = _SMALL
        rooms = {room: _at_edges(room, len(edges)) for room in kinds}
        sizes = {room: list(map(_size, edges, rooms[room])) for room in kinds}
        length = max(mmap.PAGESIZE, sum(kinds[room] * sum(sizes[room]) for room in kinds))
        if create:
            _make(path, length)
        with path.open("r+b") as file:
            flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
            self._memory = mmap.mmap(file.fileno(), length, flags=flags)
        whole = np.frombuffer(self._memory, np.uint8)
        self._rooms = [room for room, many in kinds.items() for _ in range(many)]
        places = iter(accumulate((n for room in self._rooms for n in sizes[room]), initial=0))
        #: By slot and edge.
        self._columns = [
            [
                _columns(whole, schema, part, next(places))
                for schema, part in zip(edges, rooms[room], strict=True)
            ]
            for room in self._rooms
        ]
        #: Small ones first.
        self._free = [list(range(count, len(self._rooms))), list(range(count))]

    def take(self, batch: EventBatch) -> int | None:
        """Put a batch for a worker into a free slot; None if none is free or it does not fit."""
        for free in self._free:
            fits = bool(free) and batch.events <= self._rooms[free[-1]].events
            if fits and self.write(free[-1], 0, batch):
                return free.pop()
        return None

    def release(self, slots: Iterable[int]) -> None:
        """Free slots again."""
        for slot in slots:
            self._free[self._rooms[slot] == self._rooms[0]].append(slot)

    def batch(self, slot: int, edge: int, events: int, seq: int) -> EventBatch:
        """Return views of the batch that a slot holds at an edge."""
        columns = self._columns[slot][edge]
        return EventBatch({name: column[:events] for name, column in columns.items()}, events, seq)

    def write(self, slot: int, edge: int, batch: EventBatch) -> bool:
        """Put a batch, or what came of it, at an edge; False if it does not fit."""
        return _fill(self._columns[slot][edge], batch)


def _make(path: Path, length: int) -> None:
    with path.open("xb") as file:
        try:
            # Now, and not by a signal in the middle of the run.
            os.posix_fallocate(file.fileno(), 0, length)
        except OSError as error:
            raise RunError(
                f"{path.parent}: cannot take {length >> 20} MiB of shared memory: {error.strerror}",
                hint="lower graph.window or graph.batch_events, or make /dev/shm larger",
            ) from error


def _at_edges(room: _Room, edges: int) -> list[_Room]:
    return [room] * (edges - 1) + [room._replace(events=room.results)]


def _size(schema: Schema, room: _Room) -> int:
    return sum(sum(map(_padded, _sizes(column, room))) for column in schema)


def _sizes(column: Column, room: _Room) -> list[int]:
    """Return the bytes of a column's array, or of its items and their offsets."""
    if not column.ragged:
        return [column.item_bytes * room.events]
    size = max(1, column.item_bytes)
    items = min(column.item_limit * room.events, max(room.events, room.items_bytes // size))
    return [column.item_bytes * items, 8 * (room.events + 1)]


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _columns(whole: Array, schema: Schema, room: _Room, start: int) -> Columns:
    columns: dict[str, Any] = {}
    for column in schema:
        parts = []
        for size in _sizes(column, room):
            parts.append(whole[start : start + size])
            start += _padded(size)
        values = parts[0].view(column.dtype)
        if column.ragged:
            items = values.reshape(-1, *column.item_shape)
            columns[column.name] = Ragged(items, parts[1].view(np.int64))
        else:
            columns[column.name] = values.reshape(room.events, *column.item_shape)
    return columns


def _fill(columns: Columns, batch: EventBatch) -> bool:
    """Copy a batch; False if events, or the items of a ragged column, have no room."""
    for name, column in columns.items():
        if type(column) is Ragged:
            lists = batch.ragged(name)
            if len(lists.items) > len(column.values) or batch.events >= len(column.offsets):
                return False
            column.values[: len(lists.items)] = lists.items
            np.subtract(lists.offsets, lists.offsets[0], out=column.offsets[: batch.events + 1])
        elif batch.events > len(column):
            return False
        else:
            column[: batch.events] = batch.columns[name]
    return True
