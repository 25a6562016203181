"""Random access to the record batches of one file, from its end or from any of them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from sluice.pipeline.core.arrow_message import body_bytes
from sluice.pipeline.core.errors import DataError

from .batch_decoder import UNREADABLE, BatchDecoder, Record
from .metadata import (
    BOR,
    CHECKSUM,
    PLACE,
    Metadata,
    Place,
    bor_has_changed,
    find_places,
    part_of,
    read_bor,
)

#: Marker and length of the metadata, before each message.
_PREFIX = struct.Struct("<4sI")
_CONTINUATION = b"\xff\xff\xff\xff"
#: Bytes that are searched for places at once, and longest text of a place.
_CHUNK_BYTES, _PLACE_BYTES = 4 << 20, 40
#: Maximum size, bytes, by which the schemas of two files of a recording differ: by their numbers.
_MAX_HEAD_DIFFERENCE = 64
#: Largest metadata of a message, bytes: a commit record and what Arrow writes.
_MAX_METADATA_BYTES = 1 << 26


class RecordFile:
    """One file of a recording, which no process writes.

    Parameters
    ----------
    path
        Path of the file.

    Attributes
    ----------
    bor
        Begin-of-run record, as it was written.
    part
        Position of the file in a rotated recording; None if the recording is not rotated.
    head_bytes
        Size of the schema, bytes: offset of the first record batch.
    size
        Size of the file, bytes.

    Raises
    ------
    DataError
        If the file cannot be read, or its begin-of-run record is incomplete or has changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{path}: cannot open: {error.strerror}") from error
        try:
            self._read_head()
        except UNREADABLE as error:
            os.close(self._descriptor)
            raise DataError(
                f"{path}: cannot continue: expected a recording with a begin-of-run record: {error}"
            ) from error

    def _read_head(self) -> None:
        self.size = os.fstat(self._descriptor).st_size
        end = self.message_end(0)
        if end is None:
            raise DataError("its beginning is cut short, or no Arrow IPC stream")
        schema = pa.ipc.read_schema(pa.py_buffer(self._read(0, end)))
        metadata: Metadata = schema.metadata or {}
        if BOR not in metadata:
            raise DataError("there is none")
        if bor_has_changed(metadata):
            raise DataError("bytes have changed since it was written")
        read_bor(metadata, self.path)
        self.head_bytes = end
        self.bor, self.part = metadata[BOR], part_of(metadata)
        #: Whether each record batch has its place; earlier versions wrote none.
        self._has_places = CHECKSUM in metadata
        self._decoder = BatchDecoder(schema, str(self.path))

    def message_end(self, offset: int) -> int | None:
        """Return the offset after the message at `offset`, bytes; None if no whole one is there."""
        prefix = self._read(offset, offset + _PREFIX.size)
        if len(prefix) < _PREFIX.size:
            return None
        marker, length = _PREFIX.unpack(prefix)
        begin = offset + _PREFIX.size
        if marker != _CONTINUATION or not 0 < length <= _MAX_METADATA_BYTES:
            return None
        try:
            body = body_bytes(self._read(begin, begin + length))
        except DataError:
            return None
        end = begin + length + body
        return end if body >= 0 and end <= self.size else None

    def records_from(self, place: Place) -> Iterator[tuple[Record, Place]]:
        """Yield the records from a place on, each with the place behind it, up to a damaged one."""
        offset, number = place
        while (end := self.message_end(offset)) is not None:
            try:
                message = pa.ipc.read_message(pa.py_buffer(self._read(offset, end)))
                record = self._decoder.decode(message, number)
            except UNREADABLE:
                return
            written = record.metadata.get(PLACE)
            if CHECKSUM not in record.metadata or (
                self._has_places and written != Place(offset, number).encode()
            ):
                return
            offset, number = end, number + 1
            yield record, Place(offset, number)

    def places(self) -> Iterator[Place]:
        """Yield the places of the record batches, the last first; some may be damaged."""
        if self._has_places:
            yield from self._search_places()
        else:
            yield from reversed(self._walk())

    def _search_places(self) -> Iterator[Place]:
        last, stop = self.size, self.size
        while stop > self.head_bytes:
            start = max(self.head_bytes, stop - _CHUNK_BYTES)
            content = self._read(start, min(self.size, stop + _PLACE_BYTES))
            for place in reversed(find_places(content)):
                if place.offset < last and self._is_at(place):
                    last = place.offset
                    yield place
            stop = start

    def _is_at(self, place: Place) -> bool:
        """Whether a record batch with this place begins there."""
        if place.offset < self.head_bytes:
            return False
        prefix = self._read(place.offset, place.offset + _PREFIX.size)
        if len(prefix) < _PREFIX.size or prefix[:4] != _CONTINUATION:
            return False
        begin = place.offset + _PREFIX.size
        length = min(_PREFIX.unpack(prefix)[1], _MAX_METADATA_BYTES)
        return place.encode() in self._read(begin, begin + length)

    def _walk(self) -> list[Place]:
        """Return the places of all whole record batches, by the sizes of the messages."""
        found: list[Place] = []
        offset = self.head_bytes
        while (end := self.message_end(offset)) is not None:
            found.append(Place(offset, len(found)))
            offset = end
        return found

    def _read(self, start: int, stop: int) -> bytes:
        content = os.pread(self._descriptor, max(0, stop - start), start)
        while len(content) < stop - start and (
            more := os.pread(self._descriptor, stop - start - len(content), start + len(content))
        ):
            content += more
        return content

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def has_cut_head(file: Path, before: Path) -> bool:
    """Whether a file ends within its schema, so that it holds no data.

    Parameters
    ----------
    file, before
        Paths of two successive files of a recording.

    Raises
    ------
    DataError
        If it does, and the file before it is unreadable.
    """
    with file.open("rb") as opened:
        prefix, size = opened.read(_PREFIX.size), os.fstat(opened.fileno()).st_size
    if not _CONTINUATION.startswith(prefix[:4]):
        return False
    if len(prefix) == _PREFIX.size and size >= _PREFIX.size + _PREFIX.unpack(prefix)[1]:
        return False
    # A changed length would make a file with data look like one without.
    with RecordFile(before) as complete:
        return size < complete.head_bytes + _MAX_HEAD_DIFFERENCE
