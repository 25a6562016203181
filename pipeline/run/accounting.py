"""The account of a run: ledger, latency, paths, quarantine; from them the report.

Both engines keep one. A batch is accounted when the sink has committed it, once.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from sluice.kernels.histogram import BUCKETS, quantile, record, record_ages
from sluice.pipeline.core.batch import EventBatch, Flag, Outcome
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.journal.batch_record import record_rung
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.metrics.reference_band import ReferenceBand
from sluice.pipeline.metrics.totals import monitor_totals, shadow_report, stage_report
from sluice.pipeline.sources.base import Losses, Rejected
from sluice.pipeline.transport.batch_summary import BatchSummary

from .ledger import Ledger
from .quarantine import Quarantine

_NO_LOSSES = Losses()


class LadderTime:
    """Events and time of a run by rung of the ladder.

    Attributes
    ----------
    rung
        Where the run is now.
    events
        Judged and committed, by rung.
    """

    def __init__(self, rungs: int) -> None:
        self.rung = 0
        self.events = [0] * rungs
        self._spent_ns = [0] * rungs
        self._since_ns = 0

    def enter(self, rung: int, now_ns: int) -> None:
        """Go to another rung."""
        self._spent_ns[self.rung] += now_ns - self._since_ns if self.rung else 0
        self.rung, self._since_ns = rung, now_ns

    def report(self, wall_ns: int) -> dict[str, Any]:
        """Return the report's ``ladder``: time that was not spent on a lower rung was on the first.

        Parameters
        ----------
        wall_ns
            Of the run.
        """
        spent = list(self._spent_ns)
        spent[self.rung] += time.monotonic_ns() - self._since_ns if self.rung else 0
        spent[0] = max(0, wall_ns - sum(spent[1:]))
        seconds = [ns / 1e9 for ns in spent]
        return {"rung": self.rung, "events": list(self.events), "seconds": seconds}


class RunAccounting:
    """Adds up one run.

    Parameters
    ----------
    graph
        What runs.
    run
        The run number.
    quarantine
        Where refused events go.
    blocks
        The meters of the workers, for stages' times; the engine appends.
    """

    def __init__(self, graph: Graph, run: int, quarantine: Quarantine) -> None:
        self.graph = graph
        self.run = run
        self.ledger = Ledger()
        self.blocks: list[MeterBlock] = []
        self.latency = np.zeros(BUCKETS, np.uint64)
        self.latency_max_ns = 0
        self.latency_sum_ns = 0
        self.paths = np.zeros(64, np.int64)
        self.quarantine = quarantine
        #: Of the reference run, by monitor; empty without one.
        self.bands: dict[str, ReferenceBand] = {}
        self.restarts: dict[str, int] = {}
        self.ladder = LadderTime(graph.rungs)
        #: The models in use by stage; replaced as a whole at a swap.
        self.models = graph.models()
        self.swaps: list[dict[str, Any]] = []
        self.protocol_errors = 0
        self.refused_connections = 0
        #: Workers of other hosts that were ready at any time.
        self.remote_workers = 0
        #: What both ends of a latency were read on.
        self.clock = "CLOCK_MONOTONIC"
        self.in_flight = 0
        #: Where an earlier life of the run stood.
        self.resumed: CommitRecord | None = None
        #: Guards against a scrape between two lines of `commit`.
        self.lock = threading.Lock()

    def record_offered(self, batch: EventBatch) -> None:
        """Count a batch that enters."""
        with self.lock:
            self.ledger.offer(batch.events)
            self.in_flight += 1

    def resume(self, commit: CommitRecord) -> None:
        """Count what an earlier life of the run had committed."""
        with self.lock:
            self.resumed = commit
            self.ledger.offer(commit.events)
            self.ledger.count_all(list(commit.counts))
            for bit, events in commit.paths.items():
                self.paths[bit] += events

    def record_committed(self, batch: EventBatch, summary: BatchSummary) -> None:
        """Count a batch that the sink has for good; `batch` as it entered."""
        ages = batch["t_ingest"]
        with self.lock:
            self.ledger.count_all(np.frombuffer(summary.counts, np.int64).tolist())
            self.in_flight -= 1
            self.ladder.events[record_rung(summary.batch_record)] += batch.events
            if batch.events and ages.strides == (0,):  # read at once: one age for all
                oldest = summary.t_decided - int(ages[0])
                total = oldest * batch.events
                record(self.latency, oldest, batch.events)
            else:
                oldest, total = record_ages(self.latency, summary.t_decided, ages)
            self.latency_max_ns = max(self.latency_max_ns, oldest)
            self.latency_sum_ns += total
            self.paths += np.frombuffer(summary.paths, np.int64)
        for flag in summary.flags:
            self.quarantine.add_flagged(flag, batch)

    def record_failed(self, batch: EventBatch, stage: str, reason: str) -> None:
        """Count a batch that entered and that nobody will judge."""
        with self.lock:
            self.ledger.count(Outcome.FAILED, batch.events)
            self.in_flight -= 1
        flag = Flag(stage, reason, Outcome.FAILED, list(range(batch.events)))
        self.quarantine.add_flagged(flag, batch)

    def record_losses(self, losses: Losses, source: str) -> None:
        """Count what the source could not give as events."""
        if losses == _NO_LOSSES:
            return
        if losses.unlisted_events:
            reason = "more than are kept one by one"
            losses.invalid.append(Rejected(source, reason, b"", losses.unlisted_events))
        invalid = sum(rejected.events for rejected in losses.invalid)
        with self.lock:
            self.ledger.offer(invalid + losses.lost + losses.shed)
            self.ledger.count(Outcome.INVALID, invalid)
            self.ledger.count(Outcome.LOST, losses.lost)
            self.ledger.count(Outcome.SHED, losses.shed)
            self.refused_connections += losses.rejected_connections
            self.protocol_errors += losses.unlisted_errors
            self.protocol_errors += sum(1 for rejected in losses.invalid if not rejected.events)
        for rejected in losses.invalid:
            self.quarantine.add_rejected(source, rejected)

    def monitors_out_of_band(self) -> list[str]:
        """Return the monitors whose recent mean has left the band of the reference run."""
        totals = monitor_totals(self.blocks) if self.bands else {}
        return [n for n, band in self.bands.items() if n in totals and band.is_outside(totals[n])]

    def report(self) -> dict[str, Any]:
        """Return the run report, as far as the run has come."""
        ledger = self.ledger
        seconds = ledger.seconds()
        commit = self.resumed
        before = commit.events if commit else 0
        judged = ledger.offered - sum(
            ledger.counts[o] for o in (Outcome.SHED, Outcome.LOST, Outcome.INVALID)
        )
        report: dict[str, Any] = {
            "graph": self.graph.config.graph.name,
            "run": self.run,
            "events": ledger.events(),
            "closed": ledger.closed,
            "seconds": seconds,
            "resumed": {"events": before, "batches": commit.next} if commit else None,
            "rate_hz": (ledger.settled - before) / seconds["wall"] if seconds["wall"] else 0.0,
            "latency_s": {
                **{key: self._latency(q) for key, q in _QUANTILES.items()},
                "max": self.latency_max_ns / 1e9,
                "clock": self.clock,
            },
            "stages": stage_report(self.blocks),
            "paths": dict(zip(self.graph.paths(), self.paths.tolist(), strict=False)),
            "models": self.models,
            "swaps": list(self.swaps),
            "shadows": shadow_report(self.blocks, self.graph.paths()),
            "ladder": self.ladder.report(ledger.wall_ns),
            "bypassed": [join.stage for join in self.graph.joins if join.bypassed],
            "quarantine": self.quarantine.describe(),
            "restarts": dict(self.restarts),
            "protocol_errors": self.protocol_errors,
            "refused_connections": self.refused_connections,
            "remote_workers": self.remote_workers,
        }
        for name, total in monitor_totals(self.blocks).items():
            band = self.bands.get(name)
            alarm = {"band": band, "alarm": band.is_outside(total)} if band else {}
            report[name] = {**total.report(), **alarm}
        return report | self.graph.report(max(0, judged))

    def _latency(self, q: float) -> float:
        """Return a quantile in seconds; the last bucket's upper edge may lie beyond the maximum."""
        return min(quantile(self.latency, q), self.latency_max_ns) / 1e9


_QUANTILES = {"p50": 0.50, "p99": 0.99, "p999": 0.999}
