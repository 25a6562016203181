"""Context of a run, and the protocol of engines.

The inline engine runs a graph in one process, the distributed one over several; both make the same
decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.output_files import CreatedFile
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.state import RunState
from sluice.pipeline.sinks.base import Sink
from sluice.pipeline.sources.base import FixesRung, Source
from sluice.pipeline.system.fork_server.client import ForkServer

from .swap_requests import SwapQueue

#: Model swaps in an end-of-run record, which is sent in one message; commit records have all.
_MAX_SWAPS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """All that an engine needs for one run.

    Attributes
    ----------
    graph
        The graph, built and joined.
    source
        Source of the events, open.
    sink
        Sink of the kept events, not open yet.
    accounting
        Counts and meters of the run.
    control
        State of the run, and requests to stop or pause it.
    bor
        Begin-of-run record.
    run_directory
        Folder of this run for sockets and shared memory.
    resumed
        Last commit record of the previous attempt, up to which the source has skipped; None for a
        new run.
    fixes_rung
        The source, if it fixes the rung of each batch; else None. Determined once, as the check
        against a protocol is slow.
    created
        Files of the recording that were created for this run, still empty.
    fork_server
        Fork server that outlives the run; None to start one for the run.
    swap_queue
        Requests for model swaps, from any thread.
    """

    graph: Graph
    source: Source
    sink: Sink
    accounting: RunAccounting
    control: RunState
    bor: dict[str, Any]
    run_directory: Path
    resumed: CommitRecord | None = None
    fixes_rung: FixesRung | None = None
    created: tuple[CreatedFile, ...] = ()
    fork_server: ForkServer | None = None
    swap_queue: SwapQueue = field(default_factory=SwapQueue)

    def assign_sequence(self, batch: EventBatch, seq: int) -> EventBatch:
        """Return the batch with its sequence number; its columns are checked against the graph."""
        batch.check(self.graph.inputs, "source")
        return EventBatch(batch.columns, batch.events, seq)

    def replayed_rung(self) -> int | None:
        """Return the rung that the source fixes for its latest batch; None if it fixes none."""
        source = self.fixes_rung
        return None if source is None else min(source.rung, self.graph.rungs - 1)

    def stop_source(self) -> None:
        """Stop the source, and record whether it is a file with a rest that was not read."""
        source = self.source
        if source.socket is None and not source.exhausted:
            offered = self.accounting.snapshot().events["offered"]
            self.control.input_unread = source.expected is None or offered < source.expected
        source.stop()

    def fail_remaining(self, why: str) -> None:
        """Stop the source and count the events that it has left as failed, for the reason `why`."""
        self.source.stop()
        max_events = self.graph.config.graph.batch_events
        while (batch := self.source.read(max_events)) is not None:
            self.accounting.record_offered(batch)
            self.accounting.record_failed(batch, "engine", why)
        self.accounting.record_losses(self.source.losses(), "source")

    def eor(self) -> dict[str, Any]:
        """Return the end-of-run record, with the latest model swaps."""
        now = self.accounting.snapshot()
        swaps = now.swaps[-_MAX_SWAPS:]
        return {"run": now.run, "ledger": now.events, "closed": now.closed, "swaps": swaps}


class SinkReport(Struct, frozen=True):
    """What the sink has done in a run, in its own count.

    Attributes
    ----------
    output
        The report's ``output``; empty if it is not known.
    committed
        Number of events by `Outcome` in all batches that the sink committed; None if it is not
        known, as by a sink without a journal that was restarted.
    """

    output: dict[str, Any] = {}
    committed: list[int] | None = None


class Engine(Protocol):
    """Runs the graph of a `RunContext`; constructed as ``Engine(context)``."""

    def start(self) -> None:
        """Start the run; returns when every model is loaded, warmed up and checked.

        Raises
        ------
        SluiceError
            If a component cannot be started; nothing is left running.
        """

    def run(self) -> None:
        """Run until the source is exhausted or a stop is requested; then drain.

        Raises
        ------
        RunError
            If the run cannot continue; every event is still accounted.
        """

    def finish(self) -> SinkReport:
        """Close the sink with the end-of-run record, free all resources, return its report."""
