"""Kept events as a recording."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from sluice.pipeline.config.durations import parse_duration
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError
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
    find_parts,
    flush_folder,
)

from .base import HOLD_S, Keep

#: Instead of a duration.
NEVER = "never"


class RecordingSink:
    """Writes one recording a run, which is also its journal; see `Sink`."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """What to keep and where."""

        columns: tuple[str, ...]
        keep: Keep = "accepted"
        #: The file; ``{run}`` stands for the run number.
        path: str = "run-{run:06d}" + SUFFIX
        #: Of the columns: ``zstd``, ``lz4`` or ``none``.
        compression: Compression = "zstd"
        #: How long a full disk pauses the run before it ends. A duration.
        full_timeout: str = "10 min"
        #: Begin a new file once one has so many bytes; 0 for never.
        rotate_bytes: Annotated[int, Meta(ge=0)] = 0
        #: Begin a new file once one is so old. A duration, or ``never``.
        rotate_after: str = NEVER
        #: Flush to the device so often. A duration, or ``never``: then only a file's end is.
        fsync: str = "1 s"

    max_group_delay_s = HOLD_S

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
        """Make the file, or go on with it; see `Sink` and `RecordingWriter`."""
        path = Path(self._template.format(run=bor.get("run", 0)))
        tail: ResumeOffset | None = None
        commits: list[CommitRecord] = []
        if since is not None:
            parts = list(find_parts(path).values()) if self._rotation else []
            tail, commits = find_commits(parts or [path], since)
        self._writer = self._make(path, schema, bor, tail)
        if self._fsync_s < math.inf:
            self._flusher = Flusher(self._fsync_s)
        return commits

    def resume_point(self, run: int | None) -> ResumePoint:
        """Return where the run stood that the file is of; see `Sink`."""
        path = Path(self._template.format(run=run or 0))
        if run is None and str(path) != self._template:
            raise ConfigError(
                f"sink {self.name!r}: expected the number of the run to resume, got none",
                hint=f"the path {self._template!r} depends on it: say --run NUMBER",
            )
        return read_resume_point(path, rotated=bool(self._rotation))

    def write(self, batch: EventBatch, commit: CommitRecord) -> None:
        """Append the batch and its commit record."""
        writer = self._writer
        writer.write(batch, commit.encode())
        if self._flusher is not None:
            self._flusher.mark_dirty(writer.descriptor, writer.path)

    def close(self, eor: dict[str, Any] | None) -> None:
        """End the file."""
        if eor is None:
            self._writer.close_incomplete()
        else:
            self._writer.close(eor)
        if self._flusher is not None:
            self._flusher.close()
            self._flusher = None

    def describe(self) -> dict[str, Any]:
        """Return path, events, bytes, and how many files they are."""
        writer = self._writer
        return {"path": str(writer.path), "events": writer.events, "bytes": writer.bytes,
                "files": writer.files}  # fmt: skip

    def _make(
        self, path: Path, schema: Schema, bor: dict[str, Any], tail: ResumeOffset | None
    ) -> RecordingWriter | RotatingWriter:
        if self._rotation:
            return RotatingWriter(
                path, schema, bor, self._rotation, compression=self._compression, tail=tail
            )
        writer = RecordingWriter(path, schema, bor, compression=self._compression, tail=tail)
        flush_folder(path)
        return writer


def _seconds(duration: str, where: str) -> float:
    """Return a duration in seconds, infinity for never."""
    return math.inf if duration == NEVER else parse_duration(duration, where)
