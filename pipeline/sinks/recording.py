"""Kept events as a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct

from ..batch import EventBatch, Schema
from ..errors import ConfigError
from ..recording import SUFFIX, RecordingWriter
from . import Keep


class RecordingSink:
    """Writes one recording a run; see `Sink`. Batches without kept events leave no trace in it."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """What to keep and where."""

        columns: tuple[str, ...]
        keep: Keep = "accepted"
        #: The file; ``{run}`` stands for the run number.
        path: str = "run-{run:06d}" + SUFFIX

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.columns = options.columns
        self.keep: Keep = options.keep
        self._template = options.path
        try:
            self._template.format(run=0)
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(
                f"sink {name!r}: path: expected braces only around run, as in "
                f"'run-{{run:06d}}.arrows', got {options.path!r}"
            ) from error

    def open(self, schema: Schema, bor: dict[str, Any]) -> None:
        """Make the file; see `RecordingWriter`."""
        path = Path(self._template.format(run=bor.get("run", 0)))
        self._writer = RecordingWriter(path, schema, bor)

    def write(self, batch: EventBatch) -> None:
        """Append the batch."""
        if batch.events:
            self._writer.write(batch)

    def close(self, eor: dict[str, Any] | None) -> None:
        """End the file."""
        if eor is None:
            self._writer.abandon()
        else:
            self._writer.close(eor)

    def describe(self) -> dict[str, Any]:
        """Return path, events and bytes."""
        path = self._writer.path
        return {"path": str(path), "events": self._writer.events, "bytes": path.stat().st_size}
