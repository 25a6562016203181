"""Reads batches from the source: their size, sequence number and ladder rung."""

from __future__ import annotations

import time

from sluice.pipeline.config.durations import parse_duration
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.sources.base import HasSchedule

from .base import RunContext
from .batching import BatchingPolicy
from .ladder import LadderController
from .model_epochs import ModelEpochs


class BatchReader:
    """Reads batches from the source of a run; counts their events as offered.

    Parameters
    ----------
    context
        The run.
    epochs
        Model epochs of the run.

    Attributes
    ----------
    batching
        Decides when a batch closes.
    ladder
        Decides on which rung a batch is processed.
    next_seq
        Number of the next batch.
    """

    def __init__(self, context: RunContext, epochs: ModelEpochs) -> None:
        table = context.graph.config.graph
        self._context, self._epochs = context, epochs
        self._max_events = table.batch_events
        budget_s = parse_duration(table.latency_budget, "graph.latency_budget")
        self.batching = BatchingPolicy(budget_s, self._max_events)
        self.ladder = LadderController(context, self.batching)
        if context.source.socket is not None:
            context.accounting.expect_stamps()
        self.next_seq = context.resumed.next if context.resumed else 0
        #: Start of the pause, ns of CLOCK_MONOTONIC; 0 while the run is not paused.
        self._paused_since_ns = 0

    def next(self, workers: int) -> tuple[EventBatch, int] | None:
        """Return the next batch and its rung; None if no event waits.

        Parameters
        ----------
        workers
            Number of workers that share the load.
        """
        source = self._context.source
        waiting = source.available()
        timed = bool(waiting.oldest_ns)  # a file loses nothing by waiting
        batch = source.read(self.batching.target_events if timed else self._max_events)
        if batch is None:
            return None
        rung = self._context.replayed_rung()
        if rung is None:
            rung = self.ladder.choose(waiting, batch.events, workers)
        batch = self._context.assign_sequence(batch, self.next_seq)
        self.next_seq += 1
        self._context.accounting.record_offered(batch)
        self._epochs.record_first_event(batch)
        return batch, rung

    def is_paused(self) -> bool:
        """Whether the run is paused, so that no batch may be read now.

        A live source still receives messages and sheds what does not fit its backlog. A source
        with a schedule has it shifted by the length of the pause when the pause is over.
        """
        paused, source = self._context.control.paused, self._context.source
        if paused:
            self._paused_since_ns = self._paused_since_ns or time.monotonic_ns()
        elif self._paused_since_ns:
            if isinstance(source, HasSchedule):
                source.shift(time.monotonic_ns() - self._paused_since_ns)
            self._paused_since_ns = 0
        return paused
