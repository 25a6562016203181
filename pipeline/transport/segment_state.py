"""State of a batch between two segments of a chain: payload of DATA and RESULT."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from sluice.pipeline.core.batch import Flag, Outcome
from sluice.pipeline.core.errors import ProtocolError

#: Time, ns, to which another one can be added.
_Time = Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]


class SegmentState(msgspec.Struct, frozen=True, array_like=True):
    """What the earlier segments found about a batch, beside its columns.

    Attributes
    ----------
    flags
        Events without a decision of the menu, with reasons.
    started_ns
        Time when the first stage of the first segment began, ns of CLOCK_MONOTONIC; 0 before.
    took_ns
        Time that the latest segment took, ns.
    """

    flags: tuple[Flag, ...] = ()
    started_ns: _Time = 0
    took_ns: _Time = 0

    def failed(self) -> list[int]:
        """Return the rows of the events for which a stage failed."""
        return [row for flag in self.flags if flag.outcome == Outcome.FAILED for row in flag.rows]


#: State of a batch before its first segment.
EMPTY = SegmentState()

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SegmentState)


def pack_segment_state(state: SegmentState) -> bytes:
    """Return a state as MessagePack."""
    return _encoder.encode(state)


def unpack_segment_state(frame: memoryview | bytes) -> SegmentState:
    """Return the state in `frame`, or raise ProtocolError."""
    try:
        return _decoder.decode(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"segment state: {error}") from error
