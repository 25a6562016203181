"""Decision record: how each kept event was decided, as columns that the sink may ask for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from sluice.kernels.menu import smallest_prescale
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import (
    BATCH_EVENTS,
    BATCH_SEQ,
    DECISION,
    DECISION_RECORD_COLUMNS,
    EPOCH,
    PRESCALE,
    RUNG,
    SERVICE_NS,
    T_INGEST,
    WAIT_NS,
    Array,
    Schema,
)


class BatchFacts(NamedTuple):
    """Values that all events of one batch have in common.

    Attributes
    ----------
    seq, events
        Sequence number of the batch in the run, and number of its events.
    rung, epoch
        Rung of the ladder and epoch of the models that processed it.
    started, ended
        Times at which its first stage began and its last stage ended, CLOCK_MONOTONIC, ns.
    """

    seq: int
    events: int
    rung: int
    epoch: int
    started: int
    ended: int


class DecisionRecord:
    """Adds the columns of the decision record to the events that are kept.

    Parameters
    ----------
    kept
        Names of the columns that the sink keeps; those outside the decision record are ignored.
    prescales
        Prescale of each bit of a decision, float32 (64,); None for a graph without a menu.
    max_events
        Largest batch size; a larger batch makes the arrays grow.
    """

    def __init__(self, kept: Iterable[str], prescales: Array | None, max_events: int) -> None:
        names = set(kept)
        self._schema = Schema(column for column in DECISION_RECORD_COLUMNS if column.name in names)
        self._allocate(max_events)
        self._constant = self._arrays.keys() - {WAIT_NS.name, PRESCALE.name}
        self._prescales = prescales

    @property
    def reads(self) -> set[str]:
        """Names of the source columns that the record is computed from."""
        return {T_INGEST.name} if WAIT_NS.name in self._schema else set()

    def columns_for(
        self, kept: EventBatch, batch: EventBatch, rows: Array | None, facts: BatchFacts
    ) -> EventBatch:
        """Return `kept` with the record's columns, which are valid until the next batch.

        Parameters
        ----------
        kept
            Events that go to the sink.
        batch
            Processed batch that these events come from.
        rows
            Rows of these events in `batch`, int64 (N,); None for all.
        facts
            Values that all events of the batch have in common.
        """
        if not self._arrays:
            return kept
        events = kept.events
        if events > self._capacity:
            self._allocate(events)
        constants = {
            BATCH_SEQ.name: facts.seq,
            BATCH_EVENTS.name: facts.events,
            RUNG.name: facts.rung,
            EPOCH.name: facts.epoch,
            SERVICE_NS.name: facts.ended - facts.started,
        }
        for name in self._constant:
            self._fill(name, constants[name], events)
        columns = {name: array[:events] for name, array in self._arrays.items()}
        if WAIT_NS.name in columns:
            ingest_ns = batch[T_INGEST.name]
            wait = columns[WAIT_NS.name]
            if rows is not None:
                ingest_ns = ingest_ns.take(rows)
            np.subtract(facts.started, ingest_ns, out=wait)
        if PRESCALE.name in columns:
            self._fill_prescale(batch, rows, columns[PRESCALE.name])
        return kept.with_columns(**columns)

    def _allocate(self, events: int) -> None:
        self._capacity = events
        self._arrays = {column.name: column.empty(events) for column in self._schema}
        # Constant at the start of each array: its value and its number of rows.
        self._filled: dict[str, tuple[int, int]] = {}

    def _fill(self, name: str, value: int, events: int) -> None:
        """Fill the first rows of an array with a constant, unless they have it already."""
        before, rows = self._filled.get(name, (value, 0))
        if before != value or rows < events:
            self._arrays[name][:events] = value
            self._filled[name] = (value, events)

    def _fill_prescale(self, batch: EventBatch, rows: Array | None, out: Array) -> None:
        if self._prescales is None:
            out.fill(1)
            return
        decision = batch[DECISION.name]
        smallest_prescale(decision if rows is None else decision.take(rows), self._prescales, out)
