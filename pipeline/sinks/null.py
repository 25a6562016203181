"""A sink that keeps nothing: for measuring, and for runs whose report is all that is wanted."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.journal.resume_point import ResumePoint

from .base import HOLD_S, Keep


class NullSink:
    """Takes everything and keeps nothing; see `Sink`."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Nothing to choose."""

    columns: tuple[str, ...] = ()
    keep: Keep = "accepted"
    disk_full_timeout_s = 0.0
    max_group_delay_s = HOLD_S

    def __init__(self, name: str, options: Options) -> None:
        self.name = name

    def open(
        self, schema: Schema, bor: dict[str, Any], since: int | None = None
    ) -> list[CommitRecord]:
        """Nothing to make ready, nothing to go on with."""
        return []

    def resume_point(self, run: int | None) -> ResumePoint:
        """Refuse: there is no journal."""
        raise ConfigError(f"sink {self.name!r}: cannot resume: it keeps no journal")

    def write(self, batch: EventBatch, commit: CommitRecord) -> None:
        """Forget the batch."""

    def close(self, eor: dict[str, Any] | None) -> None:
        """Nothing to end."""

    def describe(self) -> dict[str, Any]:
        """Return nothing: nothing was written."""
        return {}
