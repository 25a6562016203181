"""Sinks take the events that are kept, in order. Entry-point group ``sluice.sinks``."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.journal.resume_point import ResumePoint

#: `hold_s` of a sink for which every write costs.
HOLD_S = 0.020

Keep = Literal["accepted", "all"]


class Sink(Protocol):
    """Where kept events go.

    Attributes
    ----------
    columns
        Names of the columns that it wants; empty for none.
    keep
        Whether it wants accepted events or all.
    full_timeout_s
        How long it may be without room before the run ends.
    hold_s
        How long an event may wait for company, so that small batches become one write.
    """

    columns: tuple[str, ...]
    keep: Keep
    disk_full_timeout_s: float
    max_group_delay_s: float

    def open(
        self, schema: Schema, bor: dict[str, Any], since: int | None = None
    ) -> list[CommitRecord]:
        """Make ready for batches of `schema`; OSError if that cannot be.

        Parameters
        ----------
        schema
            Columns of what is kept.
        bor
            The begin-of-run record.
        since
            Go on with what an earlier life of this run has written, instead of beginning anew;
            ingest has settled the batches before this number.

        Returns
        -------
        list
            The commit records of that earlier life, oldest first, those that settle batches from
            `since` on and at least the last; none from a sink that keeps no journal.
        """

    def resume_point(self, run: int | None) -> ResumePoint:
        """Return where an earlier life of a run stood, before `open`; nobody writes to it now.

        Raises
        ------
        SluiceError
            If this sink keeps no journal, or that of `run` (None: the only one) cannot be gone on
            with.
        """

    def write(self, batch: EventBatch, commit: CommitRecord) -> None:
        """Take a batch for good, with what it settles; OSError if that fails, to be tried again.

        The batch may be empty.
        """

    def close(self, eor: dict[str, Any] | None) -> None:
        """End with the end-of-run record, or without one after a failure."""

    def describe(self) -> dict[str, Any]:
        """Return what was written and where, for the report."""
