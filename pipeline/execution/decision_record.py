"""Decision records: how each kept event was judged, as columns that the sink may ask for."""

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
    """What all events of one batch have in common.

    Attributes
    ----------
    seq, events
        Number of the batch in the run, and how many events it had.
    rung, epoch
        Of the ladder, and of the models.
    started, ended
        When its first stage began and its last was done, ns of CLOCK_MONOTONIC.
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
    wanted
        Names of the columns that the sink keeps; those that are not of the record are left alone.
    prescales
        float32 (64,): what each bit of a decision stands for; None where there is no menu.
    events
        Most events of a batch.
    """

    def __init__(self, wanted: Iterable[str], prescales: Array | None, events: int) -> None:
        names = set(wanted)
        self._schema = Schema(column for column in DECISION_RECORD_COLUMNS if column.name in names)
        self._allocate(events)
        self._constant = self._arrays.keys() - {WAIT_NS.name, PRESCALE.name}
        self._prescales = prescales

    @property
    def reads(self) -> set[str]:
        """Columns of the source that the record is made of."""
        return {T_INGEST.name} if WAIT_NS.name in self._schema else set()

    def columns_for(
        self, kept: EventBatch, judged: EventBatch, rows: Array | None, facts: BatchFacts
    ) -> EventBatch:
        """Return `kept` with the record's columns; they hold until the next batch.

        Parameters
        ----------
        kept
            Events that go to the sink.
        judged
            The batch that they come from.
        rows
            Their rows in it; None for all.
        facts
            What they have in common.
        """
        if not self._arrays:
            return kept
        events = kept.events
        if events > self._room:
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
            arrived = judged[T_INGEST.name]
            wait = columns[WAIT_NS.name]
            np.subtract(facts.started, arrived if rows is None else arrived.take(rows), out=wait)
        if PRESCALE.name in columns:
            self._fill_prescale(judged, rows, columns[PRESCALE.name])
        return kept.with_columns(**columns)

    def _allocate(self, events: int) -> None:
        self._room = events
        self._arrays = {column.name: column.empty(events) for column in self._schema}
        #: Constants that an array begins with: value and how often.
        self._filled: dict[str, tuple[int, int]] = {}

    def _fill(self, name: str, value: int, events: int) -> None:
        """Fill an array with a constant, unless it begins with that already."""
        before, times = self._filled.get(name, (value, 0))
        if before != value or times < events:
            self._arrays[name][:events] = value
            self._filled[name] = (value, events)

    def _fill_prescale(self, judged: EventBatch, rows: Array | None, out: Array) -> None:
        if self._prescales is None:
            out.fill(1)
            return
        decision = judged[DECISION.name]
        smallest_prescale(decision if rows is None else decision.take(rows), self._prescales, out)
