"""Sinks take the events that are kept, in order. Entry-point group ``sluice.sinks``."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from ..batch import EventBatch, Schema

Keep = Literal["accepted", "all"]


class Sink(Protocol):
    """Where kept events go.

    Attributes
    ----------
    columns
        Names of the columns that it wants; empty for none.
    keep
        Whether it wants accepted events or all.
    """

    columns: tuple[str, ...]
    keep: Keep

    def open(self, schema: Schema, bor: dict[str, Any]) -> None:
        """Make ready for batches of `schema`; OSError if that cannot be."""

    def write(self, batch: EventBatch) -> None:
        """Take a batch for good; OSError if that fails."""

    def close(self, eor: dict[str, Any] | None) -> None:
        """End with the end-of-run record, or without one after a failure."""

    def describe(self) -> dict[str, Any]:
        """Return what was written and where, for the report."""
