"""Kept events in the memory of the process that runs the graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from msgspec import Struct

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.journal.resume_point import ResumePoint

from .base import MAX_GROUP_DELAY_S, Keep


class Collected:
    """What a `MemorySink` collects.

    Attributes
    ----------
    schema
        Columns of the kept events.
    batches
        The kept events, in order, none of them empty.
    """

    def __init__(self) -> None:
        self.schema = Schema()
        self.batches: list[EventBatch] = []


_numbers = count(1)
_collections: dict[int, Collected] = {}


@contextmanager
def collection() -> Iterator[tuple[int, Collected]]:
    """Yield the number of a new `Collected`, for the options of a `MemorySink`, and itself."""
    number, collected = next(_numbers), Collected()
    _collections[number] = collected
    try:
        yield number, collected
    finally:
        del _collections[number]


class MemorySink:
    """Copies kept events into a `Collected`, for the inline engine."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Events and columns to keep, and the collection."""

        columns: tuple[str, ...]
        keep: Keep
        #: Number of the collection, from `collection`.
        collection: int

    disk_full_timeout_s = 0.0
    max_group_delay_s = MAX_GROUP_DELAY_S

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.columns = options.columns
        self.keep: Keep = options.keep
        self._collected = _collections[options.collection]

    def open(
        self, schema: Schema, bor: dict[str, Any], since: int | None = None
    ) -> list[CommitRecord]:
        """Start with an empty collection."""
        self._collected.schema = schema
        return []

    def resume_point(self, run: int | None) -> ResumePoint:
        """Raise ConfigError: there is no journal."""
        raise ConfigError(f"sink {self.name!r}: cannot resume: it keeps no journal")

    def write(self, batch: EventBatch, commit: CommitRecord) -> None:
        """Append a copy of the batch, because the stages reuse its arrays."""
        if batch.events:
            columns = {name: _copy(batch.columns[name]) for name in self._collected.schema.names}
            self._collected.batches.append(EventBatch(columns, batch.events, batch.seq))

    def close(self, eor: dict[str, Any] | None) -> None:
        """Do nothing: there is nothing to close."""

    def describe(self) -> dict[str, Any]:
        """Return an empty dictionary: nothing was written."""
        return {}


def _copy(array: Any) -> Any:
    if isinstance(array, Ragged):
        return Ragged.from_counts(array.items.copy(), array.counts)
    return array.copy()
