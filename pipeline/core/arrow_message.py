"""Metadata of Arrow IPC messages, read before Arrow unpacks their bodies.

Arrow's metadata is a flatbuffer: tables whose fields are found by a table of offsets. The offsets
used here are those of ``Message.fbs`` of the Arrow format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from .errors import DataError

#: Fields of Message, RecordBatch and KeyValue: offsets of their entries in the table of offsets.
_HEADER, _BODY_LENGTH, _CUSTOM_METADATA = 8, 10, 12
_ROWS, _BUFFERS, _COMPRESSION = 4, 8, 10
#: Field of DictionaryBatch that is a RecordBatch.
_DICTIONARY_VALUES = 6
_KEY, _VALUE = 4, 6
#: A record batch may unpack to this many bytes, or to this many times its size if that is more.
MAX_UNPACKED_BYTES, MAX_UNPACKED_RATIO = 1 << 30, 64


def body_bytes(metadata: Any) -> int:
    """Return the size of the body of a message, bytes; DataError if `metadata` is none."""
    return _count(metadata, _root(metadata), _BODY_LENGTH)


def read_schema(message: pa.Message) -> pa.Schema:
    """Return the schema in a message; DataError if it holds none, of which Arrow would crash."""
    if message.type != "schema":
        raise DataError(f"expected a schema message, got one of type {message.type!r}")
    return pa.ipc.read_schema(message)


def custom_metadata(message: pa.Message) -> dict[bytes, bytes]:
    """Return the keys and values that a message has beside Arrow's own metadata."""
    data = message.metadata
    vector = _field(data, _root(data), _CUSTOM_METADATA)
    if not vector:
        return {}
    pairs = [_follow(data, place) for place in _places(data, vector, 4)]
    return {_text(data, pair, _KEY): _text(data, pair, _VALUE) for pair in pairs}


def batch_rows(message: pa.Message) -> int:
    """Return the number of rows that a record batch message announces."""
    return _count(message.metadata, _record_batch(message), _ROWS)


def is_compressed(message: pa.Message) -> bool:
    """Whether the body of a record batch or dictionary message is compressed."""
    return bool(_field(message.metadata, _record_batch(message), _COMPRESSION))


def check_unpacked_size(message: pa.Message) -> None:
    """Check the size of a compressed record batch or dictionary before it is unpacked.

    Each compressed buffer begins with the size that it unpacks to. A few kilobytes may announce any
    size: Arrow would take that much memory.

    Raises
    ------
    DataError
        If the sizes are not numbers of bytes, or too large together.
    """
    if not is_compressed(message):
        return
    body = message.body
    unpacked = sum(_unpacked_sizes(message, body))
    max_bytes = max(MAX_UNPACKED_BYTES, MAX_UNPACKED_RATIO * body.size)
    if unpacked > max_bytes:
        raise DataError(
            f"record batch: expected at most {max_bytes} bytes unpacked from {body.size}, "
            f"got {unpacked}",
            hint="write it again in record batches of fewer rows",
        )


def _unpacked_sizes(message: pa.Message, body: pa.Buffer) -> Iterator[int]:
    data = message.metadata
    vector = _field(data, _record_batch(message), _BUFFERS)
    for place in _places(data, vector, 16) if vector else ():
        start, length = _number("<q", data, place), _number("<q", data, place + 8)
        if not length:
            continue
        unpacked = _number("<q", body, start)
        if unpacked < -1 or length < 8:
            raise DataError(f"record batch: expected the size of a buffer, got {unpacked}")
        yield length if unpacked == -1 else unpacked


def _record_batch(message: pa.Message) -> int:
    """Return the place of the RecordBatch of a message, or of that in a dictionary message."""
    data = message.metadata
    header = _field(data, _root(data), _HEADER)
    if header and message.type == "dictionary":
        header = _field(data, _follow(data, header), _DICTIONARY_VALUES)
    if not header:
        raise DataError("record batch: expected a header, got none")
    return _follow(data, header)


def _root(data: Any) -> int:
    return _number("<I", data, 0)


def _field(data: Any, table: int, entry: int) -> int:
    """Return the place of a field of a table; 0 if the table lacks it."""
    offsets = table - _number("<i", data, table)
    if _number("<H", data, offsets) <= entry:
        return 0
    offset = _number("<H", data, offsets + entry)
    return table + offset if offset else 0


def _count(data: Any, table: int, entry: int) -> int:
    """Return a number of 64 bits in a table; 0 if the table lacks it."""
    field = _field(data, table, entry)
    return _number("<q", data, field) if field else 0


def _follow(data: Any, place: int) -> int:
    """Return the place to which the offset at a place points."""
    return place + _number("<I", data, place)


def _places(data: Any, field: int, size: int) -> range:
    """Return the places of the elements of a vector, of `size` bytes each."""
    vector = _follow(data, field)
    first = vector + 4
    count = min(_number("<I", data, vector), len(data) // size)
    return range(first, first + size * count, size)


def _text(data: Any, table: int, entry: int) -> bytes:
    field = _field(data, table, entry)
    if not field:
        return b""
    start = _follow(data, field)
    return bytes(memoryview(data)[start + 4 : start + 4 + _number("<I", data, start)])


def _number(form: str, data: Any, place: int) -> int:
    """Return the number at a place; DataError if the place is outside of `data`."""
    try:
        if place < 0:
            raise struct.error("it points before the beginning")
        (number,) = struct.unpack_from(form, data, place)
    except struct.error as error:
        raise DataError(f"message: not Arrow's metadata: {error}") from error
    return int(number)
