"""Totals: the meters of stages, monitors and shadows, added over the workers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sluice.kernels.histogram import BUCKETS, edges, quantile
from sluice.pipeline.core.schema import Array

from .meters import COUNTERS, MONITOR_SCALE, MeterBlock
from .shadow_meter import shadow_overlap


def shadow_report(blocks: list[MeterBlock], paths: list[str]) -> dict[str, dict[str, Any]]:
    """Return the report's ``shadows``: overlap of their decisions with those of the run."""
    rows: dict[str, list[Array]] = {}
    for block in blocks:
        for name, row in block.shadow_rows().items():
            rows.setdefault(name, []).append(np.array(row))
    return {name: shadow_overlap(found, paths) for name, found in rows.items()}


class StageTotals(NamedTuple):
    """Meter of one stage, added over the workers.

    Attributes
    ----------
    events, batches
        Number of events and batches processed.
    not_finite
        Number of events with a NaN or an infinity in a column of the stage.
    truncated
        Number of events with a truncated list.
    service_ns, wait_ns
        Sums of service times and of waits for the stage, ns.
    service, wait
        Histograms of service times and waits, uint64 (BUCKETS,).
    """

    events: int
    batches: int
    not_finite: int
    truncated: int
    service_ns: int
    wait_ns: int
    service: Array
    wait: Array


class MonitorTotals(NamedTuple):
    """Meter of one monitor, added over the workers.

    Attributes
    ----------
    n
        Number of values.
    dropped
        Number of sampled events that the monitor did not observe.
    sum
        Sum of the values.
    recent
        Mean of the latest values, averaged over the workers.
    values
        Histogram of the values in the buckets of `sluice.kernels.histogram`, uint64 (BUCKETS,).
    """

    n: int
    dropped: int
    sum: float
    recent: float
    values: Array

    @property
    def std(self) -> float:
        """Standard deviation of the values, from the buckets of the histogram."""
        centres = edges() * (1 - 1 / 64)
        mean = float(np.average(centres, weights=self.values))
        return float(np.sqrt(np.average((centres - mean) ** 2, weights=self.values)))

    def report(self) -> dict[str, float | int | None]:
        """Return mean, std, recent, p50 and p99 (None without values), n and dropped."""
        if not self.n:
            unknown = dict.fromkeys(("mean", "std", "recent", "p50", "p99"))
            return {**unknown, "n": 0, "dropped": self.dropped}
        p50, p99 = (quantile(self.values, q) / MONITOR_SCALE for q in (0.50, 0.99))
        return {
            "mean": self.sum / self.n, "std": self.std, "recent": self.recent, "p50": p50,
            "p99": p99, "n": self.n, "dropped": self.dropped,
        }  # fmt: skip


def _added_rows(blocks: list[MeterBlock]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the rows of stages and of monitors by name, added over the workers."""
    stages: dict[str, Array] = {}
    monitors: dict[str, Array] = {}
    for block in blocks:
        names = [(stages, name) for name in block.stages]
        names += [(monitors, name) for name in block.monitors]
        for (total, name), row in zip(names, block.rows, strict=False):
            total[name] = total.get(name, 0) + np.array(row)
    return stages, monitors


def stage_totals(blocks: list[MeterBlock]) -> dict[str, StageTotals]:
    """Return the totals of each stage by its name."""
    return {
        stage: StageTotals(
            int(row[0]),
            int(row[1]),
            int(row[-2]),
            int(row[-1]),
            int(row[2]),
            int(row[3]),
            row[COUNTERS : COUNTERS + BUCKETS],
            row[COUNTERS + BUCKETS : COUNTERS + 2 * BUCKETS],
        )
        for stage, row in _added_rows(blocks)[0].items()
    }


def monitor_totals(blocks: list[MeterBlock]) -> dict[str, MonitorTotals]:
    """Return the totals of each monitor by its name."""
    found = {}
    for name, row in _added_rows(blocks)[1].items():
        active = [block for block in blocks if name in block.monitors and block.count(name)]
        recent = [int(block.row(name)[3]) for block in active]
        found[name] = MonitorTotals(
            int(row[0]),
            int(row[1]),
            int(row[2]) / MONITOR_SCALE,
            sum(recent) / len(recent) / MONITOR_SCALE if recent else 0.0,
            row[COUNTERS : COUNTERS + BUCKETS],
        )
    return found


def stage_report(totals: dict[str, StageTotals]) -> dict[str, dict[str, object]]:
    """Return the report's ``stages``: events, batches, quantiles of service and wait in seconds."""
    report: dict[str, dict[str, object]] = {}
    for stage, total in totals.items():
        report[stage] = {
            "events": total.events,
            "batches": total.batches,
            "not_finite": total.not_finite,
            "truncated": total.truncated,
            "service_s": _quantiles(total.service),
            "wait_s": _quantiles(total.wait),
        }
    return report


def _quantiles(counts: Array) -> dict[str, float]:
    return {"p50": quantile(counts, 0.50) / 1e9, "p99": quantile(counts, 0.99) / 1e9}
