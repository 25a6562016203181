"""The wire: fixed header, message kinds, payloads. docs/protocol.md specifies it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from .arrow import (
    from_arrow,
    from_arrow_schema,
    is_compressed,
    to_arrow,
    to_arrow_schema,
    validate,
)
from .batch import EventBatch
from .errors import DataError
from .schema import Schema

T = TypeVar("T")

MAGIC = b"SLCE"
VERSION = 1
MAX_EVENTS = 1 << 20
MAX_BYTES = 1 << 28
#: Of a payload that is text or a schema, and of a summary.
MAX_TEXT_BYTES = 1 << 20
MAX_SUMMARY_BYTES = 1 << 24
MAX_FRAMES = 3

_LAYOUT = struct.Struct("<4sBBHIIQQIIqqQ")
HEADER_BYTES = _LAYOUT.size


class ProtocolError(DataError):
    """A message that breaks the protocol; it is counted and dropped, the run goes on.

    Attributes
    ----------
    peer
        Who sent it, where the socket knows.
    """

    peer: bytes = b""


class Kind(IntEnum):
    """What a message is."""

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
    FULL = 15
    JOIN = 16
    SPEC = 17


class Header(NamedTuple):
    """The fixed header of every message; times in ns of CLOCK_MONOTONIC on the sender's host."""

    kind: int
    run: int = 0
    source: int = 0
    seq: int = 0
    first: int = 0
    events: int = 0
    t_ingest: int = 0
    t_sent: int = 0
    aux: int = 0
    length: int = 0


Frames = list[Any]


def encode(header: Header, *payload: Any) -> Frames:
    """Return the frames of a message: the packed header, then the payload's frames."""
    length = sum([memoryview(frame).nbytes for frame in payload])
    packed = _LAYOUT.pack(
        MAGIC, VERSION, header.kind, 0, header.run, header.source, header.seq, header.first,
        header.events, length, header.t_ingest, header.t_sent, header.aux,
    )  # fmt: skip
    return [packed, *payload]


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
    (magic, version, kind, _, run, source, seq, first, events, length, t_ingest, t_sent, aux) = (
        _LAYOUT.unpack(head)
    )
    payload = [memoryview(frame) for frame in frames[1:]]
    size = sum([frame.nbytes for frame in payload])
    if (
        magic != MAGIC or version != VERSION or len(frames) > MAX_FRAMES
        or size != length or size > _MOST_BYTES[kind] or events > MAX_EVENTS
    ):  # fmt: skip
        raise _breach(magic, version, kind, length, size, events)
    fields = (kind, run, source, seq, first, events, t_ingest, t_sent, aux, length)
    return tuple.__new__(Header, fields), payload


def _breach(
    magic: bytes, version: int, kind: int, length: int, size: int, events: int
) -> ProtocolError:
    """Say what is wrong with a header of the right length."""
    if magic != MAGIC:
        return ProtocolError(f"message: expected magic {MAGIC!r}, got {magic!r}")
    if version != VERSION:
        return ProtocolError(
            f"message: expected protocol version {VERSION}, got {version}",
            hint="sender and receiver must run the same major version of sluice",
        )
    if _MOST_BYTES[kind] < 0:
        return ProtocolError(f"message: expected a kind of 1 to {max(Kind)}, got {kind}")
    most = _MOST_BYTES[kind]
    if size != length or size > most:
        return ProtocolError(
            f"message: expected {length} payload bytes (at most {most}), got {size}"
        )
    if events > MAX_EVENTS:
        return ProtocolError(f"message: expected at most {MAX_EVENTS} events, got {events}")
    return ProtocolError(f"message: expected at most {MAX_FRAMES} frames")


_MOST = {Kind.DATA: MAX_BYTES, Kind.RAW: MAX_BYTES, Kind.RESULT: MAX_BYTES,
         Kind.ACK: MAX_SUMMARY_BYTES, Kind.HEARTBEAT: MAX_SUMMARY_BYTES}  # fmt: skip
_KINDS = frozenset(int(kind) for kind in Kind)
#: By kind, and -1 for what is none: one look in the hot path.
_MOST_BYTES = [_MOST.get(Kind(k), MAX_TEXT_BYTES) if k in _KINDS else -1 for k in range(256)]


class Codec:
    """Writes and reads the record batches of one schema, which BOR or the graph has fixed."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.arrow_schema = to_arrow_schema(schema)

    def pack(self, batch: EventBatch) -> pa.Buffer:
        """Return the batch's columns as one encapsulated Arrow record-batch message."""
        return to_arrow(batch, self.schema, self.arrow_schema).serialize()

    def unpack(self, frame: memoryview, events: int, seq: int) -> EventBatch:
        """Return the batch in `frame`, as views of it.

        Raises
        ------
        ProtocolError
            If the frame is not a record batch of this schema with `events` rows.
        """
        try:
            message = pa.ipc.read_message(pa.py_buffer(frame))
            if is_compressed(message):  # a small message could unpack to any size
                raise DataError("expected a record batch that is not compressed")
            record_batch = pa.ipc.read_record_batch(message, self.arrow_schema)
            validate(record_batch, self.schema)
        except (pa.ArrowException, OSError, EOFError, ValueError) as error:
            raise ProtocolError(f"batch {seq}: not an Arrow record batch: {error}") from error
        except DataError as error:
            raise ProtocolError(f"batch {seq}: {error.message}") from error
        if record_batch.num_rows != events:
            raise ProtocolError(
                f"batch {seq}: header says {events} events, record batch has "
                f"{record_batch.num_rows}"
            )
        try:
            return from_arrow(record_batch, self.schema, seq)
        except DataError as error:
            raise ProtocolError(error.message) from error


def pack_schema(schema: Schema) -> pa.Buffer:
    """Return the schema as an encapsulated Arrow schema message (payload of BOR)."""
    return to_arrow_schema(schema).serialize()


def unpack_schema(frame: memoryview) -> Schema:
    """Return the schema in a BOR's payload, or raise ProtocolError."""
    if frame.nbytes > MAX_TEXT_BYTES:
        raise ProtocolError(f"BOR: expected at most {MAX_TEXT_BYTES} bytes, got {frame.nbytes}")
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(frame))
        for field in schema:
            if pa.types.is_large_list(field.type):
                raise DataError(f"column {field.name!r}: expected a list, got {field.type}")
        return from_arrow_schema(schema, "BOR")
    except (pa.ArrowException, OSError, EOFError, ValueError, DataError) as error:
        raise ProtocolError(f"BOR: not a schema of numbers: {error}") from error


def record_dtype(schema: Schema) -> np.dtype[np.void]:
    """Return the packed little-endian record of a RAW message: the columns in order, no padding.

    Records have one size: ragged columns cannot be in them.
    """
    return np.dtype(
        [(c.name, np.dtype(c.dtype).newbyteorder("<"), c.item_shape) for c in schema], align=False
    )


def pack_text(value: Any) -> bytes:
    """Return `value` as JSON."""
    return msgspec.json.encode(value)


def unpack_text(payload: Sequence[memoryview], kind: type[T], what: str) -> T:
    """Return the JSON in a message's only frame as `kind`, or raise ProtocolError."""
    if len(payload) != 1:
        raise ProtocolError(f"{what}: expected 1 payload frame, got {len(payload)}")
    try:
        return msgspec.json.decode(payload[0], type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"{what}: {error}") from error
