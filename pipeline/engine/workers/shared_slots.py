"""Shared memory that holds the batches in flight, so that processes exchange them without a copy.

A slot holds one batch at each edge of the chain: on its way to a worker, from segment to segment,
and its result on its way to the sink. Ingest allocates the slots: it fills one and names it in
DATA; the worker writes its result at the next edge and names the slot in RESULT; the commit frees
it. A batch that is sent again gets another slot, because the worker that had it may still write.

Beside the slots for full batches there are small ones: at low rates dozens of batches of a few
events each wait for their commit.
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

#: Alignment of each array, bytes: one cache line.
_ALIGN = 64
#: Bytes for the items of a ragged column in a slot for full batches, at least one item per event.
#: A batch with more is sent in the message.
_ITEMS_BYTES = 1 << 20
#: Number of small slots; each has this fraction of the size of a full slot.
_SMALL_SLOTS = 128

#: Column name to array; to a `Ragged` of items and offsets where the column is ragged.
Columns = Mapping[str, Any]


class _SlotSize(NamedTuple):
    """Size of a slot: input events, events of the result, bytes of items per ragged column."""

    events: int
    results: int
    items_bytes: int


class SharedSlots:
    """Views of the shared memory of one run, the same in every process.

    Parameters
    ----------
    path
        The file, on a file system in memory.
    edges
        Columns at each edge: to the first segment, from segment to segment, and to the sink.
    events
        Largest number of events of a batch in a slot.
    results
        Largest number of events of a result, at the last edge; a larger one is sent in the message.
    count
        Number of full slots. The small slots, which together take the memory of one, are added.
    create
        Whether to create the file, as ingest does, or to open it.

    Raises
    ------
    RunError
        If there is not enough shared memory.
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
        kinds = {_SlotSize(events, results, _ITEMS_BYTES): count}
        if events >= _SMALL_SLOTS:
            small = events // _SMALL_SLOTS
            kinds[_SlotSize(small, small, _ITEMS_BYTES // _SMALL_SLOTS)] = _SMALL_SLOTS
        edge_sizes = {slot_size: _at_edges(slot_size, len(edges)) for slot_size in kinds}
        sizes = {
            slot_size: list(map(_edge_bytes, edges, edge_sizes[slot_size])) for slot_size in kinds
        }
        length = max(
            mmap.PAGESIZE, sum(kinds[slot_size] * sum(sizes[slot_size]) for slot_size in kinds)
        )
        if create:
            _create_file(path, length)
        with path.open("r+b") as file:
            flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
            self._memory = mmap.mmap(file.fileno(), length, flags=flags)
        memory = np.frombuffer(self._memory, np.uint8)
        self._slot_sizes = [slot_size for slot_size, number in kinds.items() for _ in range(number)]
        offsets = iter(
            accumulate((n for slot_size in self._slot_sizes for n in sizes[slot_size]), initial=0)
        )
        #: Views of the columns, by slot and edge.
        self._columns = [
            [
                _columns(memory, schema, size, next(offsets))
                for schema, size in zip(edges, edge_sizes[slot_size], strict=True)
            ]
            for slot_size in self._slot_sizes
        ]
        #: Free slots: small ones, then full ones.
        self._free = [list(range(count, len(self._slot_sizes))), list(range(count))]

    def take(self, batch: EventBatch) -> int | None:
        """Copy a batch into a free slot and return it; None if none is free or it does not fit."""
        for free in self._free:
            fits = bool(free) and batch.events <= self._slot_sizes[free[-1]].events
            if fits and self.write(free[-1], 0, batch):
                return free.pop()
        return None

    def release(self, slots: Iterable[int]) -> None:
        """Return slots to the free ones."""
        for slot in slots:
            self._free[self._slot_sizes[slot] == self._slot_sizes[0]].append(slot)

    def batch(self, slot: int, edge: int, events: int, seq: int) -> EventBatch:
        """Return views of the batch that a slot holds at an edge."""
        columns = self._columns[slot][edge]
        return EventBatch({name: column[:events] for name, column in columns.items()}, events, seq)

    def write(self, slot: int, edge: int, batch: EventBatch) -> bool:
        """Copy a batch to an edge of a slot; False if it does not fit."""
        return _fill(self._columns[slot][edge], batch)


def _create_file(path: Path, length: int) -> None:
    with path.open("xb") as file:
        try:
            # Reserve the memory now: a full /dev/shm would later kill the process by SIGBUS.
            os.posix_fallocate(file.fileno(), 0, length)
        except OSError as error:
            raise RunError(
                f"{path.parent}: cannot take {length >> 20} MiB of shared memory: {error.strerror}",
                hint="lower graph.window or graph.batch_events, or make /dev/shm larger",
            ) from error


def _at_edges(slot_size: _SlotSize, edges: int) -> list[_SlotSize]:
    return [slot_size] * (edges - 1) + [slot_size._replace(events=slot_size.results)]


def _edge_bytes(schema: Schema, slot_size: _SlotSize) -> int:
    return sum(sum(map(_padded_size, _column_bytes(column, slot_size))) for column in schema)


def _column_bytes(column: Column, slot_size: _SlotSize) -> list[int]:
    """Return the size in bytes of the array of a column, or of its items and its offsets."""
    if not column.ragged:
        return [column.item_bytes * slot_size.events]
    size = max(1, column.item_bytes)
    items = min(
        column.item_limit * slot_size.events, max(slot_size.events, slot_size.items_bytes // size)
    )
    return [column.item_bytes * items, 8 * (slot_size.events + 1)]


def _padded_size(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _columns(memory: Array, schema: Schema, slot_size: _SlotSize, start: int) -> Columns:
    columns: dict[str, Any] = {}
    for column in schema:
        parts = []
        for size in _column_bytes(column, slot_size):
            parts.append(memory[start : start + size])
            start += _padded_size(size)
        values = parts[0].view(column.dtype)
        if column.ragged:
            items = values.reshape(-1, *column.item_shape)
            columns[column.name] = Ragged(items, parts[1].view(np.int64))
        else:
            columns[column.name] = values.reshape(slot_size.events, *column.item_shape)
    return columns


def _fill(columns: Columns, batch: EventBatch) -> bool:
    """Copy a batch into columns; False if its events or the items of a list do not fit."""
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
