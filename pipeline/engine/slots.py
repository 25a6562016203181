"""Shared memory in which batches lie while they are in flight: between processes, no copy travels.

A slot has room for one batch on its way to a worker and for what comes of it on its way to the
sink. Ingest owns all slots: it fills one and names it in DATA; the worker writes its result beside
and names the slot in RESULT; the commit gives it back. A batch that is sent anew gets another slot,
because the worker that had it may be writing still.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..batch import Array, EventBatch, Schema
from ..errors import RunError

#: Columns begin at multiples of this: a line of the cache.
_ALIGN = 64

Columns = dict[str, Array]


class Slots:
    """Views of the shared memory of one run, the same in every process.

    Parameters
    ----------
    path
        The file; on a file system in memory.
    inputs, outputs
        Columns to a worker, and from it to the sink.
    events
        Most events of a batch that fits.
    count
        How many slots.
    create
        Make the file: once, by ingest.

    Raises
    ------
    RunError
        If there is not enough memory for it.
    """

    def __init__(
        self, path: Path, inputs: Schema, outputs: Schema, events: int, count: int, *, create: bool
    ) -> None:
        self._events = events
        sizes = [_size(schema, events) for schema in (inputs, outputs)]
        length = max(mmap.PAGESIZE, count * sum(sizes))
        if create:
            _make(path, length)
        with path.open("r+b") as file:
            flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
            self._memory = mmap.mmap(file.fileno(), length, flags=flags)
        whole = np.frombuffer(self._memory, np.uint8)
        starts = range(0, count * sum(sizes), sum(sizes) or 1)
        self._inputs = [_columns(whole, inputs, events, start) for start in starts]
        self._outputs = [_columns(whole, outputs, events, start + sizes[0]) for start in starts]
        self._free = list(range(len(self._inputs)))

    def take(self, batch: EventBatch) -> int | None:
        """Put a batch for a worker into a free slot; None if none is free or it does not fit."""
        if not self._free or batch.events > self._events:
            return None
        slot = self._free.pop()
        _fill(self._inputs[slot], batch)
        return slot

    def give_back(self, slots: Sequence[int]) -> None:
        """Free slots again."""
        self._free += slots

    def batch(self, slot: int, events: int, seq: int) -> EventBatch:
        """Return views of the batch that a slot holds for a worker."""
        return _views(self._inputs[slot], events, seq)

    def put_result(self, slot: int, batch: EventBatch) -> None:
        """Put what came of a batch beside it."""
        _fill(self._outputs[slot], batch)

    def result(self, slot: int, events: int, seq: int) -> EventBatch:
        """Return views of what came of the batch in a slot."""
        return _views(self._outputs[slot], events, seq)


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


def _size(schema: Schema, events: int) -> int:
    return sum(_padded(column.item_bytes * events) for column in schema)


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _columns(whole: Array, schema: Schema, events: int, start: int) -> Columns:
    columns = {}
    for column in schema:
        size = column.item_bytes * events
        part = whole[start : start + size].view(column.dtype)
        columns[column.name] = part.reshape(events, *column.shape)
        start += _padded(size)
    return columns


def _fill(columns: Columns, batch: EventBatch) -> None:
    for name, column in columns.items():
        column[: batch.events] = batch.columns[name]


def _views(columns: Columns, events: int, seq: int) -> EventBatch:
    return EventBatch({name: column[:events] for name, column in columns.items()}, events, seq)
