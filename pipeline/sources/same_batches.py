"""The source ``same-batches``: events of another source, in the batches of a recorded run."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from sluice.kernels.hashing import order_digest
from sluice.pipeline.config.graph_file import ComponentConfig
from sluice.pipeline.config.plugins import build
from sluice.pipeline.core.batch import EventBatch, concatenate
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import EVENT_ID, Schema
from sluice.pipeline.journal.recorded_run import RecordedRun

from .base import NONE, UNLIMITED, Available, Losses, SelectsColumns, Source

#: Events that are read from the other source at once.
_READ_EVENTS = 16_384


class SameBatches:
    """Returns the events of another source in the batches of a recorded run.

    The other source must have that run's events in the same order; other events in between are
    skipped.
    """

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """The recorded run, and the source of its events."""

        #: The recording that the run's sink wrote.
        run: str
        #: Table of the other source: `use` and its options, as in ``[source]``.
        of: dict[str, Any]

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        of = dict(options.of)
        component = ComponentConfig(str(of.pop("use", "")), name, of)
        self._inner: Source = build("source", component, name)
        self._run = Path(options.run)
        self.socket = None
        self.expected: int | None = None
        self._held: EventBatch | None = None
        self._next = 0
        self.rung = 0

    @property
    def schema(self) -> Schema:
        """Columns of the other source."""
        return self._inner.schema

    @property
    def exhausted(self) -> bool:
        """Whether every batch was read."""
        return self._next >= len(self._records)

    @property
    def corruption(self) -> str | None:
        """Damage of the other source's input; None without damage."""
        return self._inner.corruption

    def open(self) -> None:
        """Read the batch records of the run, and open the other source."""
        records = RecordedRun(self._run).batch_records()
        self._records = records[records["events"] > 0]
        self.expected = int(self._records["events"].sum())
        self._inner.open()
        if self._inner.socket is not None:
            raise DataError(f"source {self.name!r}: expected a file, got a live source")

    def receive(self) -> None:
        """Do nothing: a file has no socket."""

    def select_columns(self, names: Collection[str], events: int) -> None:
        """Let the other source read these columns only, if it can."""
        if isinstance(self._inner, SelectsColumns):
            self._inner.select_columns(names, _READ_EVENTS)

    def available(self) -> Available:
        """Return that any batch can be full: a file can always be read."""
        return NONE if self.exhausted else UNLIMITED

    def read(self, max_events: int) -> EventBatch | None:
        """Return the next batch of the run, whatever its size.

        Raises
        ------
        DataError
            If the other source has other events.
        """
        if self.exhausted:
            return None
        record = self._records[self._next]
        self._next += 1
        self.rung = int(record["rung"])
        held = self._find(record)
        while held.events < record["events"] and (more := self._read_more()) is not None:
            held = concatenate([held, more])
        batch = held.slice(0, int(record["events"]))
        if batch.events < record["events"] or order_digest(_ids(batch)) != record["ids"]:
            raise self._mismatch(record, f"other events behind event {record['first']}")
        self._held = held.slice(batch.events, held.events) if held.events > batch.events else None
        return batch

    def stop(self) -> None:
        """Read no further."""
        self._inner.stop()
        self._next = len(self._records)

    def losses(self) -> Losses:
        """Return none: events that the run did not process are not replayed."""
        self._inner.losses()
        return Losses()

    def close(self) -> None:
        """Close the other source."""
        self._inner.close()

    def _find(self, record: np.void) -> EventBatch:
        """Return the next events of the other source, beginning with the first of the batch."""
        while True:
            batch = self._held if self._held is not None else self._read_more()
            if batch is None:
                raise self._mismatch(record, f"no event {record['first']}")
            rows = np.flatnonzero(_ids(batch) == record["first"])
            if len(rows):
                return batch.slice(int(rows[0]), batch.events)
            self._held = None

    def _read_more(self) -> EventBatch | None:
        return self._inner.read(_READ_EVENTS)

    def _mismatch(self, record: np.void, got: str) -> DataError:
        self.stop()
        return DataError(
            f"batch {record['seq']} of {self._run}: expected {record['events']} events from event "
            f"{record['first']} on, the input has {got}",
            hint="replay the input that the run took its events from, in the same order",
        )


def _ids(batch: EventBatch) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return np.ascontiguousarray(batch[EVENT_ID.name])
