"""Payloads of an emulated front end: the same events with new ids and times."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from msgspec.structs import replace

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Array, Schema
from sluice.pipeline.transport.codec import Codec, record_dtype
from sluice.pipeline.transport.protocol import Kind

#: Events that are prepared at once.
_PREPARED = 4096


class PayloadGenerator(Protocol):
    """Makes payloads of the same events again and again.

    Attributes
    ----------
    kind
        Kind of the messages.
    """

    kind: Kind

    def prepare(self, first: int, t_event: Array) -> None:
        """Prepare the events from `first` on, one for each of these times, (N,) int64, Unix ns."""

    def message(self, first: int, count: int) -> Any:
        """Return the payload of a message with `count` prepared events from `first` on."""

    def min_bytes(self, count: int) -> int:
        """Return the minimum size of a message of `count` events, bytes."""


class RecordPayloads:
    """Payloads of packed records, for events of one size."""

    kind = Kind.RAW

    def __init__(self, events: EventBatch, schema: Schema, first_id: int) -> None:
        self._first_id = np.uint64(first_id)
        self._records = np.empty(events.events, record_dtype(schema))
        for name in schema.names:
            self._records[name] = events[name]
        self._prepared, self._first_prepared = self._records[:0], 0

    def prepare(self, first: int, t_event: Array) -> None:
        """Prepare events with new ids and times."""
        until = first + len(t_event)
        if not self._first_prepared <= first <= until <= self._first_prepared + len(self._prepared):
            rows = np.arange(first, max(until, first + _PREPARED), dtype=np.uint64)
            self._first_prepared = first
            self._prepared = self._records[rows % np.uint64(len(self._records))]
            self._prepared[EVENT_ID.name] = rows + self._first_id
        records = self._prepared[first - self._first_prepared : until - self._first_prepared]
        records[T_EVENT.name] = t_event
        self._first, self._bytes = first, records.view(np.uint8).data

    def message(self, first: int, count: int) -> Any:
        """Return packed records of prepared events."""
        size, start = self._records.itemsize, first - self._first
        return self._bytes[start * size : (start + count) * size]

    def min_bytes(self, count: int) -> int:
        """Return the size of the records, bytes."""
        return count * self._records.itemsize


class RaggedPayloads:
    """Payloads of Arrow record batches, for events with lists."""

    kind = Kind.DATA

    def __init__(self, events: EventBatch, schema: Schema, first_id: int) -> None:
        self._first_id = np.uint64(first_id)
        self._events = replace(events, columns={n: events.columns[n] for n in schema.names})
        self._codec = Codec(schema)

    def prepare(self, first: int, t_event: Array) -> None:
        """Prepare events with new ids and times."""
        numbers = first + np.arange(len(t_event))
        made = self._events.take(numbers % self._events.events)
        ids = numbers.astype(np.uint64) + self._first_id
        self._first = first
        self._made = made.with_columns(**{EVENT_ID.name: ids, T_EVENT.name: t_event})

    def message(self, first: int, count: int) -> Any:
        """Return a record batch of prepared events."""
        start = first - self._first
        return self._codec.pack(self._made.slice(start, start + count))

    def min_bytes(self, count: int) -> int:
        """Return 0: lists may be empty."""
        return 0


def make_payloads(events: EventBatch, schema: Schema, first_id: int) -> PayloadGenerator:
    """Return a generator for the record type `schema`; event ids count from `first_id`."""
    return (RaggedPayloads if schema.ragged else RecordPayloads)(events, schema, first_id)
