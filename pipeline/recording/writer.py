"""Writing a file of a recording, batch by batch; a write that fails leaves no trace."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Literal

import msgspec
import pyarrow as pa

from sluice.pipeline.core.arrow import to_arrow, to_arrow_schema
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import Schema

from .lock import lock
from .metadata import BOR, CHECKSUM, COMMIT, EOR, PART, ROWS, SEQ, FilePart, Info, checksum
from .tail import ResumeOffset

SUFFIX = ".arrows"
Compression = Literal["zstd", "lz4", "none"]

#: Ends an Arrow IPC stream.
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


class RecordingWriter:
    """Writes one file, a recording or a part of one; `RotatingWriter` writes all parts.

    Parameters
    ----------
    path
        The file, made anew; its folder too.
    schema
        The columns of every batch.
    bor
        The begin-of-run record: run number, graph, models, start time; anything JSON can hold.
    compression
        Of the columns. ``zstd`` is the smallest, ``lz4`` twice as fast, ``none`` needs no time.
    tail
        Go on behind what the file already has, instead of making it anew.
    part
        Which part of a recording the file is to be.

    Attributes
    ----------
    path
        Of the file.
    events, bytes
        In the file so far.
    files
        How many they are: 1.

    Raises
    ------
    OSError
        If the file cannot be made, or another process writes to it.
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
        self._arrow_schema = to_arrow_schema(schema, metadata)
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

    def _begin(self, tail: ResumeOffset | None) -> None:
        """Let the stream write its schema; cut off what the file has already, and the torn end.

        The schema comes with the first batch, therefore an empty one is written and cut off.
        """
        self.bytes = 0
        if tail is None:
            self._truncate()
        self.bytes = tail.end if tail else self._arrow_schema.serialize().size
        self._stream.write_batch(self._empty)
        self._truncate()

    def write(self, batch: EventBatch, commit: bytes | None = None) -> None:
        """Append a batch; it is in the operating system's hands when this returns.

        Parameters
        ----------
        batch
            With the columns of `schema`; may be empty for the sake of its commit record.
        commit
            The commit record, where this is the journal of a run.

        Raises
        ------
        OSError
            If the disk is full; the file is as it was before, and the batch may be tried again.
        """
        rows = self.events + batch.events
        metadata = {SEQ: str(batch.seq).encode(), ROWS: str(rows).encode()}
        if commit is not None:
            metadata[COMMIT] = commit
        if batch.events:
            record_batch = to_arrow(batch, self.schema, self._arrow_schema)
            # Numbers have a buffer of validity, which is none, and one of values; lists one of each
            # for every level.
            content = [b for array in record_batch.columns for b in array.buffers() if b]
        else:
            record_batch, content = self._empty, []
        metadata[CHECKSUM] = checksum(metadata, content)
        self._append(record_batch, metadata)
        self.events = rows

    @property
    def descriptor(self) -> int:
        """The file's descriptor."""
        return int(self._file.fileno())

    def close(self, eor: Info | None = None) -> None:
        """Write the end-of-run record, flush to the device and close; OSError as for `write`."""
        if not self._file.closed:
            self.end(eor)
            self._file.close()

    def end(self, eor: Info | None = None) -> None:
        """Write the end-of-run record and flush to the device; OSError as for `write`."""
        record = msgspec.json.encode({"events": self.events, **(eor or {})})
        metadata = {EOR: record}
        metadata[CHECKSUM] = checksum(metadata, ())
        before = self.bytes
        self._append(self._empty, metadata)
        try:
            os.write(self.descriptor, _END_OF_STREAM)
            os.fsync(self.descriptor)
        except OSError:
            self.bytes = before
            self._truncate()
            raise
        self.bytes += len(_END_OF_STREAM)

    def close_incomplete(self) -> None:
        """Close without the end-of-run record, as after a failed write."""
        self._file.close()

    def _append(self, record_batch: pa.RecordBatch, metadata: dict[bytes, bytes]) -> None:
        try:
            self._stream.write_batch(record_batch, custom_metadata=metadata)
        except OSError:
            self._truncate()
            raise
        self.bytes = self._file.tell()

    def _truncate(self) -> None:
        """Take off what a write has left behind the last whole batch."""
        with contextlib.suppress(OSError):  # what is no plain file cannot be cut
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
