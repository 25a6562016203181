"""Rotating writer: begins a new file when the open one is large or old enough."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

from msgspec import Struct

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.schema import Schema

from .flusher import flush_folder
from .metadata import CONTINUED, FilePart, Info
from .part_files import find_parts, part_path, remove_parts, require_complete
from .tail import ResumeOffset
from .writer import Compression, RecordingWriter

#: Suffix of a new file until it is complete enough to be read.
_UNFINISHED = ".new"
_Record = bytes


class Rotation(Struct, frozen=True):
    """Limits of a file; the first batch after either begins a new one.

    Attributes
    ----------
    bytes
        Size of the file; 0 for no limit.
    after_s
        Time since the file was opened, s; infinity for no limit.
    """

    bytes: int = 0
    after_s: float = math.inf

    def __bool__(self) -> bool:
        return self.bytes > 0 or self.after_s < math.inf


class RotatingWriter:
    """Writes a rotated recording; `RecordingWriter` writes each of its files.

    Parameters
    ----------
    path
        Path of the first file. Files of an earlier recording of this name are removed.
    schema, bor, compression
        Columns, begin-of-run record and compression of each file.
    rotation
        Limits of a file.
    tail
        Offset in the last file at which to continue; None to begin a new recording.

    Attributes
    ----------
    path
        Path of the first file.

    Raises
    ------
    OSError
        If a file cannot be created, or another process writes the recording.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema,
        bor: Info,
        rotation: Rotation,
        *,
        compression: Compression = "zstd",
        tail: ResumeOffset | None = None,
    ) -> None:
        self.path = path
        self._contents = schema, bor, compression
        self._rotation = rotation
        part = tail.part if tail and tail.part else FilePart(1, 0)
        if tail is None:
            remove_parts(path)
        parts = find_parts(path)
        before = (file for number, file in parts.items() if number < part.number)
        self._closed_bytes = sum(file.stat().st_size for file in before)
        cut = set(parts.values()).difference(require_complete(parts, path)) if tail else ()
        self._writer = self._open_writer(part, part_path(path, part.number), tail)
        for file in cut:
            file.unlink()
        flush_folder(self.path)
        self._begin(part)

    @property
    def descriptor(self) -> int:
        """Descriptor of the open file; another one after a write that began a new file."""
        return self._writer.descriptor

    @property
    def events(self) -> int:
        """Number of events in all files."""
        return self._part.events + self._writer.events

    @property
    def bytes(self) -> int:
        """Size of all files, bytes."""
        return self._closed_bytes + self._writer.bytes

    @property
    def files(self) -> int:
        """Number of files."""
        return self._part.number

    def write(self, batch: EventBatch, commit: _Record | None = None) -> None:
        """Append a batch, in a new file if a limit is reached; errors as for `RecordingWriter`."""
        if self._due():
            self._rotate()
        self._writer.write(batch, commit)

    def close(self, eor: Info | None = None) -> None:
        """Write the end-of-run record to the last file and close it; errors as for `write`."""
        self._writer.close({"part": self._part.number, **(eor or {})})

    def close_incomplete(self) -> None:
        """Close without the end-of-run record, as after a failed write."""
        self._writer.close_incomplete()

    def _due(self) -> bool:
        if self._writer.bytes == self._empty_bytes:
            return False
        grown = 0 < self._rotation.bytes <= self._writer.bytes
        return grown or time.monotonic() - self._since_s >= self._rotation.after_s

    def _rotate(self) -> None:
        """Begin the next file, then end this one; if the disk is full, neither happens."""
        following = FilePart(self._part.number + 1, self.events)
        path = part_path(self.path, following.number)
        if os.path.lexists(path):
            raise RunError(
                f"{path}: exists already, and nothing is replaced unasked",
                hint="move it away; --resume then goes on with the run",
            )
        unfinished = path.with_name(path.name + _UNFINISHED)
        unfinished.unlink(missing_ok=True)
        try:
            writer = self._open_writer(following, unfinished)
            self._end_part(writer, path)
        except (OSError, RunError):
            unfinished.unlink(missing_ok=True)
            raise
        try:
            unfinished.rename(path)
        except OSError as error:  # this file already names the next one
            raise RunError(f"cannot rename {unfinished} to {path.name}: {error}") from error
        self._closed_bytes += self._writer.bytes
        self._writer.close_incomplete()
        self._writer, writer.path = writer, path
        self._begin(following)
        flush_folder(path)

    def _end_part(self, following: RecordingWriter, path: Path) -> None:
        """Write into this file the name of the next, whose beginning is on the disk."""
        try:
            os.fsync(following.descriptor)
            self._writer.end({"part": self._part.number, CONTINUED: path.name})
        except (OSError, RunError):
            following.close_incomplete()
            raise

    def _open_writer(
        self, part: FilePart, path: Path, tail: ResumeOffset | None = None
    ) -> RecordingWriter:
        schema, bor, compression = self._contents
        return RecordingWriter(path, schema, bor, compression=compression, tail=tail, part=part)

    def _begin(self, part: FilePart) -> None:
        self._part = part
        self._since_s = time.monotonic()
        self._empty_bytes = 0 if self._writer.events else self._writer.bytes
