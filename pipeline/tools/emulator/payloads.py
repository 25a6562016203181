"""Events of a front end, made ready many at once, with fresh ids and times."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from msgspec.structs import replace

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Schema
from sluice.pipeline.transport.codec import Codec, record_dtype
from sluice.pipeline.transport.protocol import Kind

#: Events made ready at once.
_STOCK = 4096


class PayloadGenerator(Protocol):
    """The same events over and over.

    Attributes
    ----------
    kind
        Of the messages that are made of them.
    """

    kind: Kind

    def prepare(self, first: int, until: int, now_ns: int) -> None:
        """Make the events from `first` to before `until` ready, which happen now."""

    def message(self, first: int, count: int) -> Any:
        """Return the payload of a message with some of them."""

    def min_bytes(self, count: int) -> int:
        """Return how long a message of so many events is at least."""


class RecordPayloads:
    """Packed records; see `PayloadGenerator`."""

    kind = Kind.RAW

    def __init__(self, events: EventBatch, schema: Schema, first_id: int) -> None:
        self._first_id = np.uint64(first_id)
        self._records = np.empty(events.events, record_dtype(schema))
        for name in schema.names:
            self._records[name] = events[name]
        self._stock, self._stocked = self._records[:0], 0

    def prepare(self, first: int, until: int, now_ns: int) -> None:
        """Make events ready; see `PayloadGenerator`."""
        if not self._stocked <= first <= until <= self._stocked + len(self._stock):
            rows = np.arange(first, max(until, first + _STOCK), dtype=np.uint64)
            self._stocked = first
            self._stock = self._records[rows % np.uint64(len(self._records))]
            self._stock[EVENT_ID.name] = rows + self._first_id
        records = self._stock[first - self._stocked : until - self._stocked]
        records[T_EVENT.name] = now_ns
        self._first, self._bytes = first, records.view(np.uint8).data

    def message(self, first: int, count: int) -> Any:
        """Return packed records; see `PayloadGenerator`."""
        size, start = self._records.itemsize, first - self._first
        return self._bytes[start * size : (start + count) * size]

    def min_bytes(self, count: int) -> int:
        """Return how long the records are; see `PayloadGenerator`."""
        return count * self._records.itemsize


class RaggedPayloads:
    """Record batches, for events with lists; see `PayloadGenerator`."""

    kind = Kind.DATA

    def __init__(self, events: EventBatch, schema: Schema, first_id: int) -> None:
        self._first_id = np.uint64(first_id)
        self._events = replace(events, columns={n: events.columns[n] for n in schema.names})
        self._codec = Codec(schema)

    def prepare(self, first: int, until: int, now_ns: int) -> None:
        """Make events ready; see `PayloadGenerator`."""
        numbers = np.arange(first, until)
        made = self._events.take(numbers % self._events.events)
        ids = numbers.astype(np.uint64) + self._first_id
        times = np.full(until - first, now_ns)
        self._first = first
        self._made = made.with_columns(**{EVENT_ID.name: ids, T_EVENT.name: times})

    def message(self, first: int, count: int) -> Any:
        """Return a record batch; see `PayloadGenerator`."""
        start = first - self._first
        return self._codec.pack(self._made.slice(start, start + count))

    def min_bytes(self, count: int) -> int:
        """Return 0: lists may be empty; see `PayloadGenerator`."""
        return 0


def make_payloads(events: EventBatch, schema: Schema, first_id: int) -> PayloadGenerator:
    """Return a stock of the record type `schema`; ids count from `first_id`."""
    return (RaggedPayloads if schema.ragged else RecordPayloads)(events, schema, first_id)
