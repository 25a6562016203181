"""How batches come from the source: of how many events, under which number, for which rung."""

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
    """Takes batches from the source of a run; every event of them is offered to the ledger.

    Parameters
    ----------
    plan
        The run.
    epochs
        Which models judge.

    Attributes
    ----------
    batching, rungs
        When a batch closes and what it takes; which rung of the ladder judges.
    next_seq
        Number of the next batch.
    """

    def __init__(self, plan: RunContext, epochs: ModelEpochs) -> None:
        table = plan.graph.config.graph
        self._plan, self._epochs = plan, epochs
        self._most = table.batch_events
        budget_s = parse_duration(table.latency_budget, "graph.latency_budget")
        self.batching = BatchingPolicy(budget_s, self._most)
        self.rungs = LadderController(plan, self.batching)
        self.next_seq = plan.resumed.next if plan.resumed else 0

    def next(self, workers: int) -> tuple[EventBatch, int] | None:
        """Return the next batch and its rung, for one of so many workers; None if there is none."""
        source = self._plan.source
        waiting = source.available()
        timed = bool(waiting.oldest_ns)  # a file has all the time in the world
        batch = source.read(self.batching.target_events if timed else self._most)
        if batch is None:
            return None
        rung = self._plan.replayed_rung()
        if rung is None:
            rung = self.rungs.choose(waiting, batch.events, workers)
        batch = self._plan.assign_sequence(batch, self.next_seq)
        self.next_seq += 1
        self._plan.account.record_offered(batch)
        self._epochs.record_first_event(batch)
        return batch, rung


class Pause:
    """Tells an engine whether to read, and a paced source how long it rested.

    Parameters
    ----------
    plan
        Whose control says pause, and whose source is not read meanwhile.
    """

    def __init__(self, plan: RunContext) -> None:
        self._plan = plan
        self._since_ns = 0

    def holds(self) -> bool:
        """Return whether nothing may be read now.

        A live source goes on to take messages; what does not fit its backlog is shed, counted.
        """
        paused, source = self._plan.control.paused, self._plan.source
        if paused:
            self._since_ns = self._since_ns or time.monotonic_ns()
        elif self._since_ns:
            if isinstance(source, HasSchedule):
                source.shift(time.monotonic_ns() - self._since_ns)
            self._since_ns = 0
        return paused
