"""Sinks write the kept events, in order. Entry-point group ``sluice.sinks``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.journal.resume_point import ResumePoint

#: `Sink.max_group_delay_s` of the sinks here: many single-event batches become one write, which
#: costs about the same as the write of one.
MAX_GROUP_DELAY_S = 0.020

Keep = Literal["accepted", "all"]


class Sink(Protocol):
    """Destination of kept events.

    Attributes
    ----------
    columns
        Names of the columns to keep; empty for none.
    keep
        Events to keep: ``accepted`` or ``all``.
    disk_full_timeout_s
        Longest time without disk space before the run ends, s.
    max_group_delay_s
        Longest time that an event waits so that small batches become one write, s.
    """

    columns: tuple[str, ...]
    keep: Keep
    disk_full_timeout_s: float
    max_group_delay_s: float

    def open(
        self, schema: Schema, bor: dict[str, Any], since: int | None = None
    ) -> list[CommitRecord]:
        """Prepare to write batches; OSError if that is impossible.

        Parameters
        ----------
        schema
            Columns of the kept events.
        bor
            Begin-of-run record.
        since
            None to begin a new recording; else continue the one of this run, whose batches before
            this sequence number are acknowledged.

        Returns
        -------
        list
            Commit records of the recording that is continued, oldest first: those of the batches
            from `since` on, and at least the last. Empty for a sink without a journal.
        """

    def resume_point(self, run: int | None) -> ResumePoint:
        """Return the resume point of an interrupted run; called before `open`.

        Parameters
        ----------
        run
            Run number; None if the path of the recording does not depend on it.

        Raises
        ------
        SluiceError
            If this sink has no journal, or the run cannot be resumed.
        """

    def write(self, batch: EventBatch, commit: CommitRecord) -> None:
        """Write kept events and their commit record; OSError if that fails and may be tried again.

        The batch may be empty.
        """

    def close(self, eor: dict[str, Any] | None) -> None:
        """Write the end-of-run record, unless the run failed (None), and close."""

    def describe(self) -> dict[str, Any]:
        """Return the report's ``output``: what was written, and where."""


@runtime_checkable
class WritesRecording(Protocol):
    """Capability of a sink that writes a recording of its own for each run."""

    def files(self, run: int) -> list[Path]:
        """Return the first file of the recording of a run, then what else exists of it."""
