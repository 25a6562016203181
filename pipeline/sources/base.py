"""The protocol of sources, and their capabilities. Entry-point group ``sluice.sources``."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec
import numpy as np
from msgspec import Struct

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import Array, Schema
from sluice.pipeline.transport.codec import Codec
from sluice.pipeline.transport.socket import Socket

NEVER = math.inf
#: Entries of `Losses.invalid`, and bytes of their payloads, between two calls of `Source.losses`: a
#: hostile sender may send nothing else.
_MAX_REJECTED = 1000
_MAX_PAYLOAD_BYTES = 1 << 24


def now_for(events: int) -> Array:
    """Return `t_ingest` of events read at once, int64 (events,): one value, strides of 0 bytes."""
    now = struct.pack("=q", time.monotonic_ns())
    return np.ndarray(events, np.int64, now, strides=(0,))


class Available(NamedTuple):
    """Events that a source could return now.

    Attributes
    ----------
    events
        Number of events that `read` could return now.
    oldest_ns
        `t_ingest` of the oldest of them, ns, where they arrive by themselves; else 0.
    next_in_s
        Time until there are more without a message arriving, s.
    """

    events: int
    oldest_ns: int = 0
    next_in_s: float = NEVER

    def age_s(self, now_ns: int) -> float:
        """Return how long the oldest event has waited at a time, s; 0 if it comes from the future.

        Parameters
        ----------
        now_ns
            Time, ns of CLOCK_MONOTONIC.
        """
        return max(0, now_ns - self.oldest_ns) * 1e-9


NONE = Available(0)
#: Available events of a file: any batch can be full.
UNLIMITED = Available(1 << 62)


class Rejected(Struct, frozen=True):
    """Input that is not an event.

    Attributes
    ----------
    where
        File and line, or front end, that it came from.
    reason
        Why it is not an event.
    payload
        Raw bytes of the input.
    events
        Number of events that it stands for.
    """

    where: str
    reason: str
    payload: bytes
    events: int = 1


class Losses(Struct, kw_only=True):
    """Input that was not read as events since the last call of `Source.losses`."""

    #: Rejected input, one by one up to a limit.
    invalid: list[Rejected] = []
    #: Events that were sent and never arrived, by gaps in the sequence numbers.
    lost: int = 0
    #: Events dropped on purpose because the pipeline was full.
    shed: int = 0
    #: Connections refused because of their key.
    rejected_connections: int = 0
    #: Rejected events and messages beyond the limit of `invalid`.
    unlisted_events: int = 0
    unlisted_errors: int = 0
    #: Bytes of the payloads in `invalid`.
    payload_bytes: int = 0

    def reject(self, rejected: Rejected) -> None:
        """Add rejected input: counted beyond the limits, without payload beyond that of bytes."""
        if len(self.invalid) >= _MAX_REJECTED:
            self.unlisted_events += rejected.events
            self.unlisted_errors += not rejected.events
            return
        self.payload_bytes += len(rejected.payload)
        if self.payload_bytes > _MAX_PAYLOAD_BYTES:
            self.payload_bytes -= len(rejected.payload)
            rejected = msgspec.structs.replace(rejected, payload=b"")
        self.invalid.append(rejected)


class Source(Protocol):
    """A source of events: a file, or a socket."""

    @property
    def schema(self) -> Schema:
        """Columns of the batches, with `event_id`, `t_event`, `t_ingest`; known after `open`."""

    @property
    def exhausted(self) -> bool:
        """Whether no more events will come."""

    @property
    def corruption(self) -> str | None:
        """Why the rest of the input cannot be read, in words; None while it can."""

    @property
    def expected(self) -> int | None:
        """Number of events of the whole input, for progress bars; None if not known."""

    @property
    def socket(self) -> Socket | None:
        """Socket that is readable when events arrive; None if the source has none."""

    def open(self) -> None:
        """Open the input, or raise DataError."""

    def receive(self) -> None:
        """Receive the messages that have arrived; called when the socket is readable."""

    def available(self) -> Available:
        """Return how many events `read` could return now; it may still return fewer, or None."""

    def read(self, max_events: int) -> EventBatch | None:
        """Return the next batch of at most `max_events` events, or None if there is none."""

    def stop(self) -> None:
        """Receive no more. `read` returns what has arrived; then the source is exhausted."""

    def losses(self) -> Losses:
        """Return what could not be read as events since the last call."""

    def close(self) -> None:
        """Close the input."""


@runtime_checkable
class SelectsColumns(Protocol):
    """A source that reads less, or faster, if columns and batch size are set before reading."""

    def select_columns(self, names: Collection[str], events: int) -> None:
        """Read these columns, usually in batches of `events`; called once, before any `read`."""


@runtime_checkable
class FixesRung(Protocol):
    """A source that fixes the rung of the ladder for each of its batches.

    Attributes
    ----------
    rung
        Rung of the batch that was read last.
    """

    rung: int


@runtime_checkable
class ProtectsPassThrough(Protocol):
    """A source that sheds events under load, but none of those that pass-through keeps."""

    def protect(self, share: float, salt: int) -> None:
        """Shed no event of the share that a hash of the event id with `salt` chooses."""


@runtime_checkable
class HasSchedule(Protocol):
    """A source that releases events by a schedule, which a pause of the run delays."""

    def shift(self, ns: int) -> None:
        """Release everything later by `ns`, the length of a pause that has ended."""


CAPABILITIES = (SelectsColumns, FixesRung, ProtectsPassThrough, HasSchedule)


def within_limits(
    batch: EventBatch, schema: Schema, where: Callable[[int], str]
) -> tuple[EventBatch, list[Rejected]]:
    """Return the events whose lists are short enough, and the others.

    Parameters
    ----------
    batch
        Events with the columns of `schema`.
    schema
        Columns, with the maximum length of their lists.
    where
        Returns the origin of the event at a row of the batch, for `Rejected.where`.
    """
    refused: dict[int, str] = {}
    for name in schema.ragged:
        counts, max_items = batch.ragged(name).counts, schema[name].item_limit
        for row in np.flatnonzero(counts > max_items).tolist():
            reason = f"column {name!r}: expected at most {max_items} items, got {counts[row]}"
            refused.setdefault(row, reason)
    if not refused:
        return batch, []
    codec = Codec(schema)
    rejected = [
        Rejected(where(row), reason, codec.pack(batch.slice(row, row + 1)).to_pybytes())
        for row, reason in sorted(refused.items())
    ]
    return batch.take(np.setdiff1d(np.arange(batch.events), list(refused))), rejected
