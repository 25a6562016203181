"""Run accounting: every number of a run, changed by methods under one lock and read as a snapshot.

A batch is counted when it enters and when the sink has committed it.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from sluice.pipeline.core.batch import EventBatch, Flag, Outcome
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, T_INGEST
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.journal.batch_record import record_rung
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.metrics.reference_band import ReferenceBand
from sluice.pipeline.metrics.totals import monitor_totals, shadow_report, stage_totals
from sluice.pipeline.sources.base import Losses, Rejected
from sluice.pipeline.stages.menu import PASS_THROUGH_BIT
from sluice.pipeline.transport.batch_summary import BatchSummary

from .ladder_time import LadderTime
from .latency import EVENT_CLOCK, LatencyMeter, LatencyTotals
from .ledger import Ledger, RunTime
from .quarantine import Quarantine
from .snapshot import RunSnapshot

_NO_LOSSES = Losses()
#: Outcomes of events that reached no stage.
_UNPROCESSED = (Outcome.SHED, Outcome.LOST, Outcome.INVALID)


class RunAccounting:
    """Counts everything that is known of one run; both engines keep one.

    Only its methods change a number, and each holds the lock, so that a snapshot taken in another
    thread never shows half of a batch. The quarantine file is written outside the lock: a slow disk
    must not hold up those who ask for a snapshot.

    Parameters
    ----------
    graph
        Graph that runs.
    run
        Run number.
    quarantine
        Destination of refused events; closed with the accounting.
    """

    __slots__ = (
        "_agrees", "_bands", "_blocks", "_clock", "_ended", "_event_latency", "_graph",
        "_in_flight", "_ladder", "_latency", "_ledger", "_lock", "_models", "_paths",
        "_protocol_errors", "_quarantine", "_refused_connections", "_remote_workers", "_restarts",
        "_resumed", "_run", "_swaps",
    )  # fmt: skip

    def __init__(self, graph: Graph, run: int, quarantine: Quarantine) -> None:
        self._graph = graph
        self._run = run
        self._quarantine = quarantine
        self._ledger = Ledger()
        self._blocks: list[MeterBlock] = []
        self._latency = LatencyMeter()
        #: None unless front ends send the events.
        self._event_latency: LatencyMeter | None = None
        self._paths = np.zeros(64, np.int64)
        self._bands: dict[str, ReferenceBand] = {}
        self._restarts: dict[str, int] = {}
        self._ladder = LadderTime(graph.rungs)
        self._models = graph.models()
        self._swaps: list[dict[str, Any]] = []
        self._protocol_errors = self._refused_connections = self._remote_workers = 0
        self._clock = "CLOCK_MONOTONIC"
        self._in_flight = 0
        self._ended, self._agrees = False, True
        self._resumed: CommitRecord | None = None
        self._lock = threading.Lock()

    @property
    def run(self) -> int:
        """Run number."""
        return self._run

    @property
    def graph(self) -> Graph:
        """Graph that runs."""
        return self._graph

    @property
    def models(self) -> dict[str, dict[str, str]]:
        """Name, version, sha256 and backend of the model that each stage uses now."""
        with self._lock:
            return dict(self._models)

    def start(self, now_ns: int) -> None:
        """Begin the run's time at `now_ns`, CLOCK_MONOTONIC."""
        with self._lock:
            self._ledger.start(now_ns)

    def stop(self, now_ns: int) -> None:
        """End the run's time at `now_ns`, CLOCK_MONOTONIC."""
        with self._lock:
            self._ledger.stop(now_ns)

    def end(self, *, agrees: bool = True) -> None:
        """Note that the run has ended; without `agrees` others have counted otherwise.

        From now on its numbers have to add up, and those of others have to agree.
        """
        with self._lock:
            self._ended, self._agrees = True, self._agrees and agrees

    def enter_state(self, state: RunTime, now_ns: int) -> None:
        """Count the time since the last call in its state and go to `state`."""
        with self._lock:
            self._ledger.enter_state(state, now_ns)

    def enter_rung(self, rung: int, now_ns: int) -> None:
        """Go to another rung of the ladder at `now_ns`, CLOCK_MONOTONIC."""
        with self._lock:
            self._ladder.enter(rung, now_ns)

    def set_reference_bands(self, bands: dict[str, ReferenceBand]) -> None:
        """Compare the monitors with the bands of a reference run, by name of the monitor."""
        with self._lock:
            self._bands = dict(bands)

    def add_meters(self, block: MeterBlock) -> None:
        """Count the meters of one more process."""
        with self._lock:
            self._blocks.append(block)

    def add_remote_worker(self, block: MeterBlock) -> None:
        """Count a worker of another host and its meters; latencies are on CLOCK_TAI from now on."""
        with self._lock:
            self._blocks.append(block)
            self._remote_workers += 1
            self._clock = "CLOCK_TAI"

    def record_restart(self, process: str) -> int:
        """Count the restart of a process, by its name; return how many it has had."""
        with self._lock:
            restarts = self._restarts[process] = self._restarts.get(process, 0) + 1
        return restarts

    def record_protocol_error(self, messages: int = 1) -> None:
        """Count messages that broke the protocol."""
        with self._lock:
            self._protocol_errors += messages

    def record_refused_connections(self, connections: int) -> None:
        """Count connections without an allowed key."""
        with self._lock:
            self._refused_connections += connections

    def record_swap(self, swap: dict[str, Any]) -> None:
        """Add a model swap that begins: the report's entry, whose ``to`` is the stage's model."""
        with self._lock:
            self._models = self._models | {swap["stage"]: swap["to"]}
            self._swaps.append(swap)

    def record_first_event(self, batch: EventBatch) -> None:
        """Note the first event of the latest swap, if `batch` has it."""
        with self._lock:
            if self._swaps and self._swaps[-1]["first_event"] is None and batch.events:
                self._swaps[-1]["first_event"] = int(batch[EVENT_ID.name][0])

    def resume(self, commit: CommitRecord, swaps: list[dict[str, Any]]) -> None:
        """Count what previous attempts of the run have committed.

        Parameters
        ----------
        commit
            Last commit record.
        swaps
            The report's entries of the swaps so far; the graph has their models already.
        """
        with self._lock:
            self._resumed = commit
            self._swaps += swaps
            self._ledger.offer(commit.events)
            self._ledger.count_all(list(commit.counts))
            for bit, events in commit.paths.items():
                self._paths[bit] += events

    def expect_stamps(self) -> None:
        """Count the latency from `t_event` as well, where it is a Unix time: events are live."""
        with self._lock:
            self._event_latency = LatencyMeter()

    def record_offered(self, batch: EventBatch) -> None:
        """Count a batch that enters."""
        with self._lock:
            self._ledger.offer(batch.events)
            self._in_flight += 1

    def record_committed(self, batch: EventBatch, summary: BatchSummary) -> None:
        """Count a batch that the sink has committed; `batch` as it entered."""
        decided_ns = min(summary.t_decided, time.monotonic_ns())  # other hosts have other clocks
        with self._lock:
            self._ledger.count_all(np.frombuffer(summary.counts, np.int64).tolist())
            self._in_flight -= 1
            self._ladder.events[record_rung(summary.batch_record)] += batch.events
            self._latency.record(decided_ns, batch[T_INGEST.name])
            if self._event_latency is not None:
                unix_ns = decided_ns + time.time_ns() - time.monotonic_ns()
                self._event_latency.record_stamped(unix_ns, batch[T_EVENT.name])
            self._paths += np.frombuffer(summary.paths, np.int64)
        for flag in summary.flags:
            self._quarantine.add_flagged(flag, batch)

    def record_failed(self, batch: EventBatch, stage: str, reason: str) -> None:
        """Count a batch that entered and that no worker will process."""
        with self._lock:
            self._ledger.count(Outcome.FAILED, batch.events)
            self._in_flight -= 1
        flag = Flag(stage, reason, Outcome.FAILED, list(range(batch.events)))
        self._quarantine.add_flagged(flag, batch)

    def record_losses(self, losses: Losses, source: str) -> None:
        """Count input that the source could not give as events."""
        if losses == _NO_LOSSES:
            return
        if losses.unlisted_events:
            reason = "more than are kept one by one"
            losses.invalid.append(Rejected(source, reason, b"", losses.unlisted_events))
        invalid = sum(rejected.events for rejected in losses.invalid)
        with self._lock:
            self._ledger.offer(invalid + losses.lost + losses.shed)
            self._ledger.count(Outcome.INVALID, invalid)
            self._ledger.count(Outcome.LOST, losses.lost)
            self._ledger.count(Outcome.SHED, losses.shed)
            self._refused_connections += losses.rejected_connections
            self._protocol_errors += losses.unlisted_errors
            self._protocol_errors += sum(1 for rejected in losses.invalid if not rejected.events)
        for rejected in losses.invalid:
            self._quarantine.add_rejected(source, rejected)

    def snapshot(self) -> RunSnapshot:
        """Return all numbers as they are now; callable from any thread."""
        graph = self._graph
        with self._lock:
            blocks = list(self._blocks)
        stages, monitors = stage_totals(blocks), monitor_totals(blocks)
        shadows = shadow_report(blocks, graph.paths())
        with self._lock:
            ledger, ladder, resumed = self._ledger, self._ladder, self._resumed
            unprocessed = sum(ledger.counts[outcome] for outcome in _UNPROCESSED)
            return RunSnapshot(
                graph=graph.config.graph.name,
                run=self._run,
                events=ledger.events(),
                ended=self._ended,
                closed=ledger.closed and self._agrees,
                seconds=ledger.seconds(),
                resumed_events=resumed.events if resumed else None,
                resumed_batches=resumed.next if resumed else None,
                in_flight=self._in_flight,
                latency=self._latency.totals(self._clock),
                event_latency=self._event_latency_totals(),
                stages=stages,
                monitors=monitors,
                shadows=shadows,
                paths=dict(zip(graph.paths(), self._paths.tolist(), strict=False)),
                pass_through=int(self._paths[PASS_THROUGH_BIT]),
                models=dict(self._models),
                swaps=[dict(swap) for swap in self._swaps],
                rung=ladder.rung,
                rung_events=list(ladder.events),
                rung_seconds=ladder.seconds(ledger.wall_ns),
                bypassed=[join.stage for join in graph.joins if join.bypassed],
                bands=dict(self._bands),
                quarantine=self._quarantine.describe(),
                restarts=dict(self._restarts),
                protocol_errors=self._protocol_errors,
                refused_connections=self._refused_connections,
                remote_workers=self._remote_workers,
                components=graph.report(max(0, ledger.offered - unprocessed)),
            )

    def _event_latency_totals(self) -> LatencyTotals | None:
        totals = self._event_latency and self._event_latency.totals(EVENT_CLOCK)
        return totals if totals and totals.counts.any() else None

    def close(self) -> None:
        """End the quarantine file."""
        self._quarantine.close()
