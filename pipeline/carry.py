"""What travels with a batch from one segment of a chain to the next, beside its columns."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from .batch import EventBatch, Flag, Outcome, concatenate
from .schema import OUTCOME, Column
from .wire import ProtocolError


class Carry(msgspec.Struct, frozen=True, array_like=True):
    """What earlier segments have found.

    Attributes
    ----------
    flags
        Events that were not judged, with reasons.
    started
        When the first stage of the first segment began, ns of CLOCK_MONOTONIC; 0 before.
    took
        What the latest segment took, ns.
    """

    flags: tuple[Flag, ...] = ()
    started: int = 0
    took: int = 0

    def failed(self) -> list[int]:
        """Return the rows of the events that broke a stage."""
        return [row for flag in self.flags if flag.outcome == Outcome.FAILED for row in flag.rows]


#: With a batch that no stage has seen.
NOTHING = Carry()

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Carry)


def pack_carry(carry: Carry) -> bytes:
    """Return it as MessagePack."""
    return _encoder.encode(carry)


def unpack_carry(frame: memoryview | bytes) -> Carry:
    """Return what `frame` holds, or raise ProtocolError."""
    try:
        return _decoder.decode(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"carry: {error}") from error


def pass_over(
    batch: EventBatch, flags: tuple[Flag, ...], gone: list[int], made: Iterable[Column]
) -> tuple[EventBatch, tuple[Flag, ...]]:
    """Return a batch and its flags as if no stage had seen some of its events.

    Parameters
    ----------
    batch, flags
        As a segment leaves them.
    gone
        Rows of the events that broke a stage of an earlier segment.
    made
        The columns that stages make: they are zeros for these events.
    """
    blank = {column.name: column.zeros(1) for column in made if column.name in batch}
    rows = np.arange(batch.events)
    rows[np.array(gone)] = batch.events
    columns = concatenate((batch.only(blank), EventBatch(blank, 1))).take(rows).columns
    outcome = batch[OUTCOME.name].copy()
    outcome[gone] = Outcome.FAILED
    left = [
        Flag(flag.stage, flag.reason, flag.outcome, [r for r in flag.rows if r not in set(gone)])
        for flag in flags
    ]
    cleaned = batch.with_columns(**{**columns, OUTCOME.name: outcome})
    return cleaned, tuple(flag for flag in left if flag.rows)
