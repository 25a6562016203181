"""Kept events as a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct

from ..batch import EventBatch, Schema
from ..config import seconds
from ..errors import ConfigError
from ..journal import Commit, Standing, find_commits, read_standing
from ..recording import SUFFIX, Compression, RecordingWriter, Tail
from . import HOLD_S, Keep


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

    hold_s = HOLD_S

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.columns = options.columns
        self.keep: Keep = options.keep
        self._compression: Compression = options.compression
        self.full_timeout_s = seconds(options.full_timeout, f"sink {name!r}: full_timeout")
        self._template = options.path
        try:
            self._template.format(run=0)
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(
                f"sink {name!r}: path: expected braces only around run, as in "
                f"'run-{{run:06d}}.arrows', got {options.path!r}"
            ) from error

    def open(self, schema: Schema, bor: dict[str, Any], since: int | None = None) -> list[Commit]:
        """Make the file, or go on with it; see `Sink` and `RecordingWriter`."""
        path = Path(self._template.format(run=bor.get("run", 0)))
        tail: Tail | None = None
        commits: list[Commit] = []
        if since is not None:
            tail, commits = find_commits(path, since)
        self._writer = RecordingWriter(path, schema, bor, compression=self._compression, tail=tail)
        return commits

    def standing(self, run: int | None) -> Standing:
        """Return where the run stood that the file is of; see `Sink`."""
        path = Path(self._template.format(run=run or 0))
        if run is None and str(path) != self._template:
            raise ConfigError(
                f"sink {self.name!r}: expected the number of the run to resume, got none",
                hint=f"the path {self._template!r} depends on it: say --run NUMBER",
            )
        return read_standing(path)

    def write(self, batch: EventBatch, commit: Commit) -> None:
        """Append the batch and its commit record."""
        self._writer.write(batch, commit.encode())

    def close(self, eor: dict[str, Any] | None) -> None:
        """End the file."""
        if eor is None:
            self._writer.abandon()
        else:
            self._writer.close(eor)

    def describe(self) -> dict[str, Any]:
        """Return path, events and bytes."""
        writer = self._writer
        return {"path": str(writer.path), "events": writer.events, "bytes": writer.bytes}
