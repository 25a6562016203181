"""Writer of one file, batch by batch; a write that fails leaves the file as it was."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec
import pyarrow as pa

from sluice.pipeline.core.arrow import to_arrow, to_arrow_schema
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.schema import Schema

from .flusher import flush, flush_failed
from .lock import lock
from .metadata import (
    BOR,
    CHECKSUM,
    COMMIT,
    EOR,
    PART,
    PLACE,
    ROWS,
    SEQ,
    FilePart,
    Info,
    Place,
    checksum,
)
from .tail import ResumeOffset

SUFFIX = ".arrows"
Compression = Literal["zstd", "lz4", "none"]

#: Marker at the end of an Arrow IPC stream.
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


class RecordingWriter:
    """Writes one file: a recording, or one file of a rotated one (`RotatingWriter`).

    Parameters
    ----------
    path
        Path of the file; the file is overwritten, a missing folder is created.
    schema
        Columns of every batch.
    bor
        Begin-of-run record: run number, graph, models, start time; anything JSON can hold.
    compression
        Compression of the columns: ``zstd`` is the smallest, ``lz4`` twice as fast, ``none`` needs
        no time.
    tail
        Offset at which to continue an existing file; None to create the file.
    part
        Position of the file in a rotated recording; None if the recording is not rotated.

    Attributes
    ----------
    path
        Path of the file.
    events, bytes
        Number of events in the file, and its size.
    files
        Number of files, 1.

    Raises
    ------
    OSError
        If the file cannot be created, or another process writes it.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema,
        bor: Info | None = None,
        *,
        compression: Compression = "zstd",
        tail: ResumeOffset | None = None,
        part: FilePart | None = None,
    ) -> None:
        self.path = path
        self.files = 1
        self.schema = schema
        self.events = tail.rows if tail else 0
        record = tail.bor if tail else msgspec.json.encode(bor or {})
        metadata = {BOR: record} | ({PART: msgspec.json.encode(part)} if part else {})
        self._batches = tail.batches if tail else 0
        self._arrow_schema = to_arrow_schema(schema, self._head_metadata(metadata))
        self._empty = pa.RecordBatch.from_pylist([], schema=self._arrow_schema)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = pa.OSFile(str(path), "ab")
        codec = None if compression == "none" else compression
        options = pa.ipc.IpcWriteOptions(compression=codec)
        self._stream = pa.ipc.new_stream(self._file, self._arrow_schema, options=options)
        try:
            lock(self.descriptor, path)
            self._begin(tail)
        except OSError:
            self._file.close()
            raise

    def _head_metadata(self, metadata: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Return the metadata of the schema with its checksum."""
        return metadata | {CHECKSUM: checksum(metadata, ())}

    def _begin(self, tail: ResumeOffset | None) -> None:
        """Write the schema, or truncate an existing file to its resume offset.

        Arrow writes the schema with the first batch, so an empty batch is written and truncated.
        """
        self.bytes = 0
        if tail is None:
            self._truncate()
        self.bytes = tail.end if tail else self._arrow_schema.serialize().size
        self._stream.write_batch(self._empty)
        self._truncate()

    def write(self, batch: EventBatch, commit: bytes | None = None) -> None:
        """Append a batch; the operating system has it when this returns.

        Parameters
        ----------
        batch
            Events with the columns of `schema`; none if there is only a commit record to write.
        commit
            Commit record, encoded; None outside a run.

        Raises
        ------
        OSError
            If the disk is full; the file is as before, and the write may be tried again.
        """
        rows = self.events + batch.events
        metadata = {SEQ: str(batch.seq).encode(), ROWS: str(rows).encode()}
        if commit is not None:
            metadata[COMMIT] = commit
        if batch.events:
            record_batch = to_arrow(batch, self.schema, self._arrow_schema)
            # Arrow arrays have a validity buffer, None here, and a buffer of values; lists have
            # both at every level.
            content = [b for array in record_batch.columns for b in array.buffers() if b]
        else:
            record_batch, content = self._empty, []
        self._append(record_batch, metadata, content)
        self.events = rows

    @property
    def descriptor(self) -> int:
        """Descriptor of the open file."""
        return int(self._file.fileno())

    def close(self, eor: Info | None = None) -> None:
        """Write the end-of-run record, flush to the disk and close; errors as for `end`."""
        if not self._file.closed:
            self.end(eor)
            self._file.close()

    def end(self, eor: Info | None = None) -> None:
        """Write the end-of-run record and flush to the disk.

        Raises
        ------
        OSError
            As for `write`.
        RunError
            If the flush fails; the file is without the record, and not all before it may be on the
            device.
        """
        record = msgspec.json.encode({"events": self.events, **(eor or {})})
        before = self.bytes
        self._append(self._empty, {EOR: record}, ())
        try:
            left = _END_OF_STREAM
            while left:  # a write may take a part only
                left = left[os.write(self.descriptor, left) :]
            self._flush()
        except (OSError, RunError):
            self.bytes = before
            self._batches -= 1
            self._truncate()
            raise
        self.bytes += len(_END_OF_STREAM)

    def _flush(self) -> None:
        try:
            flush(self.descriptor)
        except OSError as error:
            raise flush_failed(self.path, error) from error

    def close_incomplete(self) -> None:
        """Close without the end-of-run record, as after a failed write."""
        self._file.close()

    def _append(
        self, record_batch: pa.RecordBatch, metadata: dict[bytes, bytes], content: Iterable[Any]
    ) -> None:
        metadata[PLACE] = Place(self.bytes, self._batches).encode()
        metadata[CHECKSUM] = checksum(metadata, content)
        try:
            self._stream.write_batch(record_batch, custom_metadata=metadata)
        except OSError:
            self._truncate()
            raise
        self.bytes = self._file.tell()
        self._batches += 1

    def _truncate(self) -> None:
        """Remove what a failed write left after the last whole batch."""
        with contextlib.suppress(OSError):  # only a regular file can be truncated
            os.ftruncate(self.descriptor, self.bytes)

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.close_incomplete()
