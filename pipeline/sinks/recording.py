"""Recording sink: writes the kept events and the journal of a run as a recording."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from sluice.pipeline.config.durations import parse_duration
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError, RunError
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.journal.resume_point import ResumePoint, find_commits, read_resume_point
from sluice.pipeline.recording import (
    SUFFIX,
    Compression,
    Flusher,
    RecordingWriter,
    ResumeOffset,
    RotatingWriter,
    Rotation,
    find_files,
    find_parts,
    flush_folder,
)

from .base import MAX_GROUP_DELAY_S, Keep

#: Value of an option instead of a duration.
NEVER = "never"


class RecordingSink:
    """Writes one recording for each run, which is also its journal."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """Events and columns to keep, and the files."""

        columns: tuple[str, ...]
        keep: Keep = "accepted"
        #: Path of the file; ``{run}`` is replaced by the run number.
        path: str = "run-{run:06d}" + SUFFIX
        #: Compression of the columns: ``zstd``, ``lz4`` or ``none``.
        compression: Compression = "zstd"
        #: Longest time that a full disk pauses the run before it ends. A duration.
        full_timeout: str = "10 min"
        #: Size at which a new file is begun, bytes; 0 for never.
        rotate_bytes: Annotated[int, Meta(ge=0)] = 4 << 30
        #: Time after which a new file is begun. A duration, or ``never``.
        rotate_after: str = NEVER
        #: Time between flushes to the disk. A duration, or ``never`` to flush at a file's end only.
        fsync: str = "1 s"

    max_group_delay_s = MAX_GROUP_DELAY_S

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.columns = options.columns
        self.keep: Keep = options.keep
        self._compression: Compression = options.compression
        self.disk_full_timeout_s = parse_duration(
            options.full_timeout, f"sink {name!r}: full_timeout"
        )
        self._rotation = Rotation(
            options.rotate_bytes, _seconds(options.rotate_after, f"sink {name!r}: rotate_after")
        )
        self._fsync_s = _seconds(options.fsync, f"sink {name!r}: fsync")
        self._flusher: Flusher | None = None
        self._template = options.path
        try:
            self._template.format(run=0)
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(
                f"sink {name!r}: path: expected braces only around run, as in "
                f"'run-{{run:06d}}.arrows', got {options.path!r}"
            ) from error

    def open(
        self, schema: Schema, bor: dict[str, Any], since: int | None = None
    ) -> list[CommitRecord]:
        """Create the file, or continue it; return its commit records from batch `since` on."""
        path = Path(self._template.format(run=bor.get("run", 0)))
        offset: ResumeOffset | None = None
        commits: list[CommitRecord] = []
        if since is not None:
            offset, commits = find_commits(find_files(path), since)
        self._writer = self._open_writer(path, schema, bor, offset)
        if self._fsync_s < math.inf:
            self._flusher = Flusher(self._fsync_s)
        return commits

    def files(self, run: int) -> list[Path]:
        """Return the first file of the recording of a run, then what else exists of it."""
        path = Path(self._template.format(run=run))
        return list(dict.fromkeys((path, *find_parts(path).values())))

    def resume_point(self, run: int | None) -> ResumePoint:
        """Return the resume point of the run whose recording the path names."""
        path = Path(self._template.format(run=run or 0))
        if run is None and str(path) != self._template:
            raise ConfigError(
                f"sink {self.name!r}: expected the number of the run to resume, got none",
                hint=f"the path {self._template!r} depends on it: add --run NUMBER",
            )
        return read_resume_point(path)

    def write(self, batch: EventBatch, commit: CommitRecord) -> None:
        """Append the kept events and their commit record."""
        writer = self._writer
        if self._flusher is not None:
            self._flusher.require_flushed()
        writer.write(batch, commit.encode())
        if self._flusher is not None:
            self._flusher.mark_dirty(writer.descriptor, writer.path)

    def close(self, eor: dict[str, Any] | None) -> None:
        """Close the file, with the end-of-run record unless it is None.

        The record is written only if all before it is on the disk.
        """
        try:
            if self._flusher is not None:
                self._flusher.finish()
            if eor is not None:
                self._writer.close(eor)
        except RunError:
            self._close_incomplete()
            raise
        self._close_incomplete()

    def _close_incomplete(self) -> None:
        """Release the file as it is; no more after it was closed."""
        if self._flusher is not None:
            self._flusher.abandon()
        self._flusher = None
        self._writer.close_incomplete()

    def describe(self) -> dict[str, Any]:
        """Return path, events, bytes and number of files."""
        writer = self._writer
        return {"path": str(writer.path), "events": writer.events, "bytes": writer.bytes,
                "files": writer.files}  # fmt: skip

    def _open_writer(
        self, path: Path, schema: Schema, bor: dict[str, Any], offset: ResumeOffset | None
    ) -> RecordingWriter | RotatingWriter:
        if self._rotation and _can_rotate(path, offset):
            return RotatingWriter(
                path, schema, bor, self._rotation, compression=self._compression, tail=offset
            )
        writer = RecordingWriter(path, schema, bor, compression=self._compression, tail=offset)
        flush_folder(path)
        return writer


def _can_rotate(path: Path, offset: ResumeOffset | None) -> bool:
    """Whether other files may follow: not after a device, or a recording begun without rotation."""
    return not path.is_char_device() and (offset is None or offset.part is not None)


def _seconds(duration: str, where: str) -> float:
    """Return a duration in seconds; infinity for ``never``."""
    return math.inf if duration == NEVER else parse_duration(duration, where)
