"""Header, kinds and limits of messages; docs/protocol.md specifies them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import msgspec

from sluice.pipeline.core.errors import ProtocolError

T = TypeVar("T")

MAGIC = b"SLCE"
VERSION = 3
#: Maximum number of events of a message, and maximum payload, bytes.
MAX_EVENTS = 1 << 20
MAX_BYTES = 1 << 28
#: Largest payload that is text or a schema, and largest payload of summaries, bytes.
MAX_TEXT_BYTES = 1 << 20
MAX_SUMMARY_BYTES = 1 << 24
#: Maximum number of frames of a message, with its header.
MAX_FRAMES = 3

_BEFORE_ARG1, _BEFORE_EVENTS = "<4sBBHIIQ", "<4sBBHIIQQ"
_LAYOUT = struct.Struct(f"{_BEFORE_EVENTS}IIQqQ")
HEADER_BYTES = _LAYOUT.size
#: Places of fields in a header that is read as eight uint64: of `arg1`, and of `events`, which are
#: the low 32 bits, with `length`, which are the high ones.
ARG1_WORD = struct.calcsize(_BEFORE_ARG1) // 8
EVENTS_LENGTH_WORD = struct.calcsize(_BEFORE_EVENTS) // 8


class Kind(IntEnum):
    """Kind of a message."""

    BOR = 1
    EOR = 2
    DATA = 3
    RAW = 4
    RESULT = 5
    ACK = 6
    CREDIT = 7
    HELLO = 8
    HEARTBEAT = 9
    ERROR = 10
    STOP = 11
    BUSY = 12
    CONTROL = 13
    READY = 14
    DISK_FULL = 15
    JOIN = 16
    SPEC = 17
    FLUSH = 18


class Session(NamedTuple):
    """What all messages between ingest and one process of a run have in common.

    Attributes
    ----------
    run
        Run number.
    number
        Random number that no other process has, 1 to 2^32 - 1; a restarted process has another.
    """

    run: int = 0
    number: int = 0


class Header(NamedTuple):
    """The fixed header of every message.

    Attributes
    ----------
    kind
        A `Kind`.
    run
        Run number; 0 from a front end.
    source
        Number of the front end; inside a run the session number of the process that is not ingest.
    seq
        Number of the batch in the run, or of the message from a front end.
    arg1, arg2
        Meaning depends on the kind; only `messages` reads and writes them.
    events
        Events in the payload.
    token
        Token of the batch; 0 where it does not apply.
    t_sent
        Time of sending, ns of CLOCK_MONOTONIC on the sender's host; 0 where it does not apply.
    length
        Payload, bytes; `encode` computes it.
    """

    kind: int
    run: int = 0
    source: int = 0
    seq: int = 0
    arg1: int = 0
    events: int = 0
    token: int = 0
    t_sent: int = 0
    arg2: int = 0
    length: int = 0

    @property
    def session(self) -> Session:
        """Session to which the message belongs, inside a run."""
        return Session(self.run, self.source)

    def of(self, session: Session) -> Header:
        """Return this header as that of a message of a session."""
        # Not by `_replace`, which takes five times as long: a batch needs three of these.
        return tuple.__new__(Header, self[:1] + session + self[3:])

    def is_of(self, session: Session) -> bool:
        """Whether the message belongs to a session."""
        return self[1:3] == session


Frames = list[Any]


def encode(header: Header, *payload: Any) -> Frames:
    """Return the frames of a message: the packed header, then the payload's frames.

    Raises
    ------
    ProtocolError
        If the receiver would refuse the message, as it is beyond the limits of its kind.
    """
    length = sum([memoryview(frame).nbytes for frame in payload])
    packed = _LAYOUT.pack(
        MAGIC, VERSION, header.kind, 0, header.run, header.source, header.seq, header.arg1,
        header.events, length, header.token, header.t_sent, header.arg2,
    )  # fmt: skip
    if length > _MAX_PAYLOAD_BYTES[header.kind] or header.events > MAX_EVENTS:
        raise _too_large(header, length)
    return [packed, *payload]


def _too_large(header: Header, length: int) -> ProtocolError:
    """Return the error of a message that must not be sent."""
    kind, max_bytes = Kind(header.kind), _MAX_PAYLOAD_BYTES[header.kind]
    return ProtocolError(
        f"cannot send {kind.name}: expected at most {max_bytes} bytes and {MAX_EVENTS} events, "
        f"got {length} bytes and {header.events} events",
        hint="lower graph.batch_events" if kind in (Kind.DATA, Kind.RESULT) else None,
    )


def decode(frames: Sequence[Any]) -> tuple[Header, list[memoryview]]:
    """Check and unpack a message.

    Raises
    ------
    ProtocolError
        On wrong length, magic, version, kind, or a count or size beyond the limits.
    """
    head = frames[0] if frames else b""
    if len(head) != HEADER_BYTES:
        raise ProtocolError(f"message: expected a header of {HEADER_BYTES} bytes, got {len(head)}")
    (magic, version, kind, _, run, source, seq, arg1, events, length, token, t_sent, arg2) = (
        _LAYOUT.unpack(head)
    )
    payload = [memoryview(frame) for frame in frames[1:]]
    size = sum([frame.nbytes for frame in payload])
    if (
        magic != MAGIC or version != VERSION or len(frames) > MAX_FRAMES
        or size != length or size > _MAX_PAYLOAD_BYTES[kind] or events > MAX_EVENTS
    ):  # fmt: skip
        raise _explain(magic, version, kind, length, size, events)
    fields = (kind, run, source, seq, arg1, events, token, t_sent, arg2, length)
    return tuple.__new__(Header, fields), payload


def _explain(
    magic: bytes, version: int, kind: int, length: int, size: int, events: int
) -> ProtocolError:
    """Return the error of a header that has the right length and is invalid."""
    if magic != MAGIC:
        return ProtocolError(f"message: expected magic {MAGIC!r}, got {magic!r}")
    if version != VERSION:
        return ProtocolError(
            f"message: expected protocol version {VERSION}, got {version}",
            hint="sender and receiver must run the same major version of sluice",
        )
    max_bytes = _MAX_PAYLOAD_BYTES[kind]
    if max_bytes < 0:
        return ProtocolError(f"message: expected a kind of 1 to {max(Kind)}, got {kind}")
    if size != length or size > max_bytes:
        return ProtocolError(
            f"message: expected {length} payload bytes (at most {max_bytes}), got {size}"
        )
    if events > MAX_EVENTS:
        return ProtocolError(f"message: expected at most {MAX_EVENTS} events, got {events}")
    return ProtocolError(f"message: expected at most {MAX_FRAMES} frames")


_KINDS = frozenset(int(kind) for kind in Kind)
_MAX_BYTES_OF_KIND = {
    Kind.DATA: MAX_BYTES, Kind.RAW: MAX_BYTES, Kind.RESULT: MAX_BYTES,
    Kind.ACK: MAX_SUMMARY_BYTES, Kind.HEARTBEAT: MAX_SUMMARY_BYTES,
}  # fmt: skip
#: Largest payload by kind, bytes, and -1 for numbers that are no kind. A list of all 256 numbers,
#: because `decode` then needs a single lookup for each message.
_MAX_PAYLOAD_BYTES = [
    _MAX_BYTES_OF_KIND.get(Kind(number), MAX_TEXT_BYTES) if number in _KINDS else -1
    for number in range(256)
]


def pack_json(value: Any) -> bytes:
    """Return `value` as JSON."""
    return msgspec.json.encode(value)


def unpack_json(payload: Sequence[memoryview], kind: type[T], what: str) -> T:
    """Return the JSON in a message's only frame as `kind`, or raise ProtocolError."""
    if len(payload) != 1:
        raise ProtocolError(f"{what}: expected 1 payload frame, got {len(payload)}")
    try:
        return msgspec.json.decode(payload[0], type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"{what}: {error}") from error


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of what a socket holds for one peer; credit and windows stay far below them.

    Attributes
    ----------
    frame_bytes
        Largest frame, bytes; a peer that sends a larger one is disconnected.
    queue
        Largest number of messages in each direction.
    receive_queue
        Largest number of received messages, if it is another; a peer that sends more waits.
    """

    frame_bytes: int = MAX_BYTES
    queue: int = 10_000
    receive_queue: int | None = None
