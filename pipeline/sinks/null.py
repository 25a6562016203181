"""Null sink: keeps nothing, for measurements and for runs of which only the report matters."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.journal.resume_point import ResumePoint

from .base import MAX_GROUP_DELAY_S, Keep


class NullSink:
    """Accepts every batch and writes nothing."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """No options."""

    columns: tuple[str, ...] = ()
    keep: Keep = "accepted"
    disk_full_timeout_s = 0.0
    max_group_delay_s = MAX_GROUP_DELAY_S

    def __init__(self, name: str, options: Options) -> None:
        self.name = name

    def open(
        self, schema: Schema, bor: dict[str, Any], since: int | None = None
    ) -> list[CommitRecord]:
        """Return no commit records: there is no journal."""
        return []

    def resume_point(self, run: int | None) -> ResumePoint:
        """Raise ConfigError: there is no journal."""
        raise ConfigError(f"sink {self.name!r}: cannot resume: it keeps no journal")

    def write(self, batch: EventBatch, commit: CommitRecord) -> None:
        """Do nothing."""

    def close(self, eor: dict[str, Any] | None) -> None:
        """Do nothing."""

    def describe(self) -> dict[str, Any]:
        """Return an empty dictionary: nothing was written."""
        return {}
