"""What travels with a batch from one segment of a chain to the next, beside its columns."""

from __future__ import annotations

import msgspec

from sluice.pipeline.core.batch import Flag, Outcome
from sluice.pipeline.core.errors import ProtocolError


class SegmentState(msgspec.Struct, frozen=True, array_like=True):
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
EMPTY = SegmentState()

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SegmentState)


def pack_carry(carry: SegmentState) -> bytes:
    """Return it as MessagePack."""
    return _encoder.encode(carry)


def unpack_carry(frame: memoryview | bytes) -> SegmentState:
    """Return what `frame` holds, or raise ProtocolError."""
    try:
        return _decoder.decode(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"carry: {error}") from error
