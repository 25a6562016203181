"""File of a quarantine: an Arrow IPC stream that stays readable after a failed write."""

from __future__ import annotations

import contextlib
import os
from io import FileIO
from pathlib import Path

import pyarrow as pa

from sluice.pipeline.core.output_files import create_file

#: Marker at the end of an Arrow IPC stream.
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


#: Columns of a quarantine.
SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.uint64(), nullable=True),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("where", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
    ]
)
#: What a file of this kind is, in messages.
DESCRIPTION = "a quarantine"


def is_quarantine(path: Path) -> bool:
    """Whether a file begins as the quarantine of a run does."""
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            return bool(stream.schema.equals(SCHEMA))
    except (OSError, pa.ArrowException):
        return False


class QuarantineFile:
    """An Arrow IPC stream; the file is created with the first record batch.

    Parameters
    ----------
    path
        Path of the file; a missing folder is created.
    force
        Whether the file may replace the quarantine of an earlier run.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self._path, self._force = path, force
        self._file: FileIO | None = None
        self._bytes = 0

    def append(self, batch: pa.RecordBatch) -> None:
        """Write a record batch, or leave the file as it was.

        It may be tried again, also with another record batch.

        Raises
        ------
        OSError
            If it cannot be written.
        ConfigError
            If the file would replace another one.
        """
        if self._file is None:
            self._file = self._open()
        if not self._bytes:
            self._write(self._file, SCHEMA.serialize())
        self._write(self._file, batch.serialize())

    def close(self) -> None:
        """Write the end of the stream and close the file, if there is one; OSError as above."""
        if self._file is not None:
            with self._file:
                if self._bytes:
                    self._write(self._file, _END_OF_STREAM)

    def _open(self) -> FileIO:
        os.makedirs(self._path.parent, exist_ok=True)
        created = create_file(self._path, DESCRIPTION, is_quarantine, force=self._force)
        file = FileIO(self._path, "wb")
        if created is not None:
            created.keep()
        return file

    def _write(self, file: FileIO, data: pa.Buffer | bytes) -> None:
        """Write all of `data`, or nothing."""
        left = memoryview(data)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            with contextlib.suppress(OSError):  # only a regular file can be truncated
                file.truncate(self._bytes)
                file.seek(self._bytes)
            raise
        self._bytes += memoryview(data).nbytes
