"""Engines run a graph: inline in one process, or distributed over processes. Same decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.state import RunState
from sluice.pipeline.sinks.base import Sink
from sluice.pipeline.sources.base import FixesRung, Source
from sluice.pipeline.system.fork_server.client import ForkServer

from .swap_requests import SwapQueue


@dataclass(frozen=True, slots=True)
class RunContext:
    """All that an engine needs for one run.

    Attributes
    ----------
    graph, source, sink
        What runs; the source is open, the sink is not.
    account
        Where everything is added up.
    control
        The run's state, and the wish to stop.
    bor
        The begin-of-run record.
    runtime
        A folder for sockets and shared memory, the run's own.
    resumed
        Where the run stood when an earlier life of it ended; the source is past that.
    nursery
        Where processes come from, if there is one already; it outlives the run.
    orders
        Swaps of models that were ordered, from any thread.
    """

    graph: Graph
    source: Source
    sink: Sink
    account: RunAccounting
    control: RunState
    bor: dict[str, Any]
    runtime: Path
    resumed: CommitRecord | None = None
    nursery: ForkServer | None = None
    orders: SwapQueue = field(default_factory=SwapQueue)
    #: The source where it says on which rung to judge; asked once, for the question is slow.
    _dictator: FixesRung | None = field(init=False)

    def __post_init__(self) -> None:
        found = self.source if isinstance(self.source, FixesRung) else None
        object.__setattr__(self, "_dictator", found)

    def assign_sequence(self, batch: EventBatch, seq: int) -> EventBatch:
        """Return the batch with its sequence number, columns checked and cut to what travels."""
        batch.check(self.graph.inputs, "source")
        return EventBatch(batch.columns, batch.events, seq)

    def replayed_rung(self) -> int | None:
        """Return the rung that the source wants for its latest batch, None if it does not care."""
        dictator = self._dictator
        return None if dictator is None else min(dictator.rung, self.graph.rungs - 1)

    def fail_remaining(self, why: str) -> None:
        """Stop the source; what it took and nobody will judge is counted as failed."""
        self.source.stop()
        most = self.graph.config.graph.batch_events
        while (batch := self.source.read(most)) is not None:
            self.account.record_offered(batch)
            self.account.record_failed(batch, "engine", why)
        self.account.record_losses(self.source.losses(), "source")

    def eor(self) -> dict[str, Any]:
        """Return the end-of-run record."""
        now = self.account.snapshot()
        return {"run": now.run, "ledger": now.events, "closed": now.closed, "swaps": now.swaps}


class Engine(Protocol):
    """Runs a plan. Made as ``Engine(plan)``."""

    def start(self) -> None:
        """Make everything ready; returns when every model is loaded, warm and proven.

        Raises
        ------
        SluiceError
            If something cannot be made ready; nothing is left running.
        """

    def run(self) -> None:
        """Run until the source is exhausted or the control asks to stop; then drain.

        Raises
        ------
        RunError
            If the run cannot go on; every event is accounted all the same.
        """

    def finish(self) -> dict[str, Any]:
        """End the sink with the end-of-run record, free everything, say what was written."""
