"""Recordings: Arrow IPC streams (zstd) that any Arrow reader opens, also after a crash.

The stream's schema metadata holds the begin-of-run record; each record batch carries its
sequence number; the last, empty batch carries the end-of-run record. A file without it was
cut short and is read up to its last whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import pyarrow as pa

from .arrow import from_arrow, from_arrow_schema, to_arrow, to_arrow_schema
from .batch import EventBatch, Schema
from .errors import DataError

SUFFIX = ".arrows"
_BOR, _EOR, _SEQ = b"sluice.bor", b"sluice.eor", b"sluice.seq"
_CONTINUATION = b"\xff\xff\xff\xff"

Info = dict[str, Any]


class RecordingWriter:
    """Writes one recording.

    Parameters
    ----------
    path
        The file, made anew; its folder too.
    schema
        The columns of every batch.
    bor
        The begin-of-run record: run number, graph, models, start time; anything JSON can hold.

    Raises
    ------
    OSError
        If the file cannot be made.
    """

    def __init__(self, path: Path, schema: Schema, bor: Info | None = None) -> None:
        self.path = path
        self.schema = schema
        self.events = 0
        metadata = {_BOR: msgspec.json.encode(bor or {})}
        self._arrow_schema = to_arrow_schema(schema, metadata)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = pa.OSFile(str(path), "wb")
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        self._stream = pa.ipc.new_stream(self._file, self._arrow_schema, options=options)

    def write(self, batch: EventBatch) -> None:
        """Append a batch; it is in the operating system's hands when this returns.

        Raises
        ------
        OSError
            If the disk is full; what was written before stays readable.
        """
        record_batch = to_arrow(batch, self.schema, self._arrow_schema)
        self._stream.write_batch(record_batch, custom_metadata={_SEQ: str(batch.seq).encode()})
        self.events += batch.events

    def close(self, eor: Info | None = None) -> None:
        """Write the end-of-run record, flush to the device and close."""
        if self._file.closed:
            return
        try:
            empty = pa.RecordBatch.from_pylist([], schema=self._arrow_schema)
            record = msgspec.json.encode({"events": self.events, **(eor or {})})
            self._stream.write_batch(empty, custom_metadata={_EOR: record})
            self._stream.close()
        finally:
            self._file.close()
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def abandon(self) -> None:
        """Close without the end-of-run record, as after a failed write."""
        self._file.close()

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


class RecordingReader:
    """Reads one recording, batch by batch.

    Attributes
    ----------
    schema, bor
        Columns and the begin-of-run record.
    eor
        The end-of-run record; None until it was read, and for a recording that was cut short.
    damage
        What is wrong with the file and where; None while nothing is.

    Raises
    ------
    DataError
        If the file is not an Arrow IPC stream at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.eor: Info | None = None
        self.damage: str | None = None
        try:
            # Read, not mapped: a file that is cut while it is read would kill the process.
            self._file = pa.OSFile(str(path))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot open: {error}") from error
        try:
            self._stream = pa.ipc.open_stream(self._file)
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{path}: not a recording: {_expected(path)}: {error}",
                hint="expected an Arrow IPC stream; `sluice simulate` and `sluice run` write them",
            ) from error
        self.schema = from_arrow_schema(self._stream.schema, str(path))
        metadata = self._stream.schema.metadata or {}
        self.foreign = _BOR not in metadata
        try:
            self.bor: Info = msgspec.json.decode(metadata.get(_BOR, b"{}"), type=Info)
        except msgspec.MsgspecError as error:
            raise DataError(f"{path}: begin-of-run record: not JSON: {error}") from error

    def batches(self) -> Iterator[EventBatch]:
        """Yield each whole batch; stop at the end, or where the file was cut (see `damage`)."""
        index = 0
        ended = False
        while True:
            try:
                record_batch, metadata = self._stream.read_next_batch_with_custom_metadata()
                record_batch.validate()
            except StopIteration:
                break
            except (OSError, EOFError, pa.ArrowException) as error:
                self.damage = f"{self.path}: cut short after {index} whole batches: {error}"
                return
            metadata = dict(metadata or {})
            if _EOR in metadata:
                try:
                    self.eor = msgspec.json.decode(metadata[_EOR], type=Info)
                except msgspec.MsgspecError as error:
                    self.damage = f"{self.path}: end-of-run record: not JSON: {error}"
                ended = True
                continue
            if record_batch.num_rows:
                seq = metadata.get(_SEQ, b"")
                yield from_arrow(record_batch, self.schema, int(seq) if seq.isdigit() else index)
            index += 1
        if not ended and not self.foreign:
            self.damage = f"{self.path}: no end-of-run record after {index} whole batches"

    def close(self) -> None:
        """Let go of the file; arrays that were read stay valid."""
        self._file.close()


def _expected(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    return f"expected it to start with {_CONTINUATION!r}, got {start!r}"
