"""Sources give batches of events. Entry-point group ``sluice.sources``."""

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
#: What `Losses` keeps one by one until it is asked for.
_MOST_REJECTED = 1000
_MOST_PAYLOAD_BYTES = 1 << 24


def now_for(events: int) -> Array:
    """Return `t_ingest` of events read at once: the same time for all, in the memory of one."""
    now = struct.pack("=q", time.monotonic_ns())
    return np.ndarray(events, np.int64, now, strides=(0,))


class Available(NamedTuple):
    """What a source could give.

    Attributes
    ----------
    events
        That `read` could give now.
    oldest_ns
        `t_ingest` of the oldest of them, where they came by themselves.
    more_in_s
        Seconds until there are more without any message coming.
    """

    events: int
    oldest_ns: int = 0
    next_in_s: float = NEVER


NONE = Available(0)
#: Of a source that is read as fast as it goes: any batch is full.
UNLIMITED = Available(1 << 62)


class Rejected(Struct, frozen=True):
    """Something of the input that is not an event: where, why, and its bytes."""

    where: str
    reason: str
    payload: bytes
    events: int = 1


class Losses(Struct):
    """What a source could not give as events since it was last asked."""

    invalid: list[Rejected] = []
    #: Events that upstream sent and that never came, by sequence gaps.
    lost: int = 0
    #: Events dropped on purpose because the pipeline was full.
    shed: int = 0
    #: Connections that were dropped because they did not show the right key.
    rejected_connections: int = 0
    #: Events and messages that were refused beyond those that `invalid` lists one by one.
    unlisted_events: int = 0
    unlisted_errors: int = 0
    #: Of the payloads in `invalid`.
    payload_bytes: int = 0

    def reject(self, rejected: Rejected) -> None:
        """Add what is no event; bounded, for a hostile sender may send nothing else."""
        if len(self.invalid) >= _MOST_REJECTED:
            self.unlisted_events += rejected.events
            self.unlisted_errors += not rejected.events
            return
        self.payload_bytes += len(rejected.payload)
        if self.payload_bytes > _MOST_PAYLOAD_BYTES:
            self.payload_bytes -= len(rejected.payload)
            rejected = msgspec.structs.replace(rejected, payload=b"")
        self.invalid.append(rejected)


@runtime_checkable
class SelectsColumns(Protocol):
    """A source that reads better for knowing what will be asked of it."""

    def select_columns(self, names: Collection[str], events: int) -> None:
        """Give these columns, in batches of `events` as a rule; called once, before any `read`."""


class Source(Protocol):
    """Where events come from."""

    @property
    def schema(self) -> Schema:
        """Columns of its batches, `event_id`, `t_event`, `t_ingest` included; after `open`."""

    @property
    def exhausted(self) -> bool:
        """Whether no more events will come."""

    @property
    def corruption(self) -> str | None:
        """What is wrong with the input as a whole, None while nothing is."""

    @property
    def expected(self) -> int | None:
        """Events in all, where that is known; for progress bars."""

    @property
    def socket(self) -> Socket | None:
        """What to wait on for more; None where only time or reading brings more."""

    def open(self) -> None:
        """Open the input, or raise DataError."""

    def receive(self) -> None:
        """Take what the socket has; called when it is readable."""

    def available(self) -> Available:
        """Return what `read` could give; it may still give less, or None."""

    def read(self, most: int) -> EventBatch | None:
        """Return the next batch of at most `most` events, or None if there is none."""

    def stop(self) -> None:
        """Take no more. `read` still gives what was taken; then the source is exhausted."""

    def losses(self) -> Losses:
        """Return and forget what could not be given as events."""

    def close(self) -> None:
        """Let go of the input."""


@runtime_checkable
class FixesRung(Protocol):
    """A source that knows which rung of the ladder is to judge its batches.

    Attributes
    ----------
    rung
        Of the batch that was read last.
    """

    rung: int


@runtime_checkable
class ProtectsPassThrough(Protocol):
    """A source that sheds when it has no room."""

    def protect(self, share: float, salt: int) -> None:
        """Shed none of the events that a hash of their id draws with `salt`."""


@runtime_checkable
class HasSchedule(Protocol):
    """A source with a schedule of its own, which stands still while the run is paused."""

    def shift(self, ns: int) -> None:
        """Move what is due by the `ns` nanoseconds of a pause that is over."""


def within_limits(
    batch: EventBatch, schema: Schema, where: Callable[[int], str]
) -> tuple[EventBatch, list[Rejected]]:
    """Return the events whose lists are short enough, and the others.

    Parameters
    ----------
    batch
        With the columns of `schema`.
    schema
        Which columns have lists, and how long these may be.
    where
        Tells from the row of an event in the batch where it was.
    """
    refused: dict[int, str] = {}
    for name in schema.ragged:
        counts, most = batch.ragged(name).counts, schema[name].item_limit
        for row in np.flatnonzero(counts > most).tolist():
            reason = f"column {name!r}: expected at most {most} items, got {counts[row]}"
            refused.setdefault(row, reason)
    if not refused:
        return batch, []
    codec = Codec(schema)
    rejected = [
        Rejected(where(row), reason, codec.pack(batch.slice(row, row + 1)).to_pybytes())
        for row, reason in sorted(refused.items())
    ]
    return batch.take(np.setdiff1d(np.arange(batch.events), list(refused))), rejected
