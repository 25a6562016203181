"""File of a quarantine: an Arrow IPC stream that stays readable after a failed write."""

from __future__ import annotations

import contextlib
import os
from io import FileIO
from pathlib import Path

import pyarrow as pa

#: Marker at the end of an Arrow IPC stream.
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


class QuarantineFile:
    """An Arrow IPC stream; the file is created with the first record batch.

    Parameters
    ----------
    path
        Path of the file; a missing folder is created.
    schema
        Columns of the record batches.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        self._file: FileIO | None = None
        self._bytes = 0

    def append(self, batch: pa.RecordBatch) -> None:
        """Write a record batch; OSError if it cannot be written, which leaves the file as it was.

        It may be tried again, also with another record batch.
        """
        if self._file is None:
            self._file = self._open()
        if not self._bytes:
            self._write(self._file, self._schema.serialize())
        self._write(self._file, batch.serialize())

    def close(self) -> None:
        """Write the end of the stream and close the file, if there is one; OSError as above."""
        if self._file is not None:
            with self._file:
                if self._bytes:
                    self._write(self._file, _END_OF_STREAM)

    def _open(self) -> FileIO:
        os.makedirs(self._path.parent, exist_ok=True)
        return FileIO(self._path, "wb")

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
