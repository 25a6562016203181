"""Counting in shared memory: one block a worker, one writer each, read by the daemon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from sluice.kernels.histogram import BUCKETS, bucket_of, edges, quantile, record_scaled
from sluice.kernels.jit import kernel, reads, value, writes

from .overlap import ShadowMeter, overlap_report
from .schema import Array

#: A stage's meter is a row of uint64: events, batches, service ns, wait ns, then two histograms,
#: and at the end the events that had a list cut.
#: A monitor's: values seen, events dropped, sum of values and recent mean in billionths, and one
#: histogram.
_HEAD = 4
_ROW = _HEAD + 2 * BUCKETS + 1
#: Monitor values are counted in the latency histogram: its buckets in seconds are then in 1.0.
MONITOR_SCALE = 1e9
#: The recent mean of a monitor forgets as one over this many values does.
RECENT = 1000


@kernel((writes("u8", 2), value("i8"), reads("i8", 1)))
def _count(meters: Array, events: int, times: Array) -> None:
    before = times[0]
    for stage in range(times.size - 2):
        meter = meters[stage]
        start, end = times[stage + 1], times[stage + 2]
        service, wait = max(0, end - start), max(0, start - before)
        meter[0] += np.uint64(events)
        meter[1] += np.uint64(1)
        meter[2] += np.uint64(service)
        meter[3] += np.uint64(wait)
        meter[_HEAD + bucket_of(service)] += np.uint64(1)
        meter[_HEAD + BUCKETS + bucket_of(wait)] += np.uint64(1)
        before = end


class MonitorMeter:
    """What one monitor saw in one process: a histogram of its values, and what it had to drop.

    Parameters
    ----------
    row
        A meter, in memory that others may read.
    """

    def __init__(self, row: Array) -> None:
        self._row = row
        self._values: Array = row[_HEAD : _HEAD + BUCKETS]

    def record(self, values: Array) -> None:
        """Count float32 values, finite and not negative."""
        if not len(values):
            return
        total = float(values.sum(dtype=np.float64)) * MONITOR_SCALE
        self._row[0] += np.uint64(len(values))
        self._row[2] += np.uint64(round(total))
        # The first values weigh as in a plain mean, so that the start is not remembered for ever.
        weight = max(len(values) / int(self._row[0]), 1 - math.exp(-len(values) / RECENT))
        recent = int(self._row[3])
        self._row[3] = np.uint64(round(recent + weight * (total / len(values) - recent)))
        record_scaled(self._values, values, MONITOR_SCALE)

    def drop(self, events: int) -> None:
        """Count events that it did not get to see."""
        self._row[1] += np.uint64(events)


class MeterBlock:
    """The meters of one worker in a memory-mapped file, so that another process can read them.

    Parameters
    ----------
    stages, monitors, shadows
        Their names, in order.
    path
        The file; None for memory of this process alone.
    create
        Write to the file, from where a writer before left it; else read what is there.
    """

    def __init__(
        self,
        stages: list[str],
        monitors: list[str],
        path: Path | None = None,
        *,
        create: bool = True,
        shadows: Sequence[str] = (),
    ) -> None:
        self.stages = stages
        self.monitors = monitors
        self.shadows = shadows
        shape = (max(1, len(stages) + len(monitors) + len(shadows)), _ROW)
        self.rows: Array = np.zeros(shape, np.uint64)
        if path is not None:
            mode: Literal["r", "r+", "w+"] = "r"
            if create:
                mode = "r+" if path.exists() else "w+"
            mapped = np.memmap(path, np.uint64, mode, shape=shape)
            self.rows = mapped.view(np.ndarray)

    def record_stages(self, events: int, times_ns: Array) -> None:
        """Count one batch in each stage.

        Parameters
        ----------
        events
            Of the batch.
        times_ns
            int64 (stages + 2,): when the batch began to wait, when the first stage began, and
            when each stage was done; CLOCK_MONOTONIC.
        """
        _count(self.rows, events, times_ns)

    def cut_counter(self, stage: int) -> Array:
        """Return where a stage counts events that had a list cut, uint64 (1,)."""
        counter: Array = self.rows[stage, -1:]
        return counter

    def row_of(self, monitor: str) -> Array:
        """Return the meter of a monitor."""
        row: Array = self.rows[len(self.stages) + self.monitors.index(monitor)]
        return row

    def seen(self, monitor: str) -> int:
        """Return how many values a monitor has seen here."""
        return int(self.row_of(monitor)[0])

    def monitor_meters(self) -> list[MonitorMeter]:
        """Return one meter a monitor."""
        return [MonitorMeter(row) for row in self.rows[len(self.stages) :][: len(self.monitors)]]

    def shadow_rows(self) -> dict[str, Array]:
        """Return the meter of each shadow by its name."""
        rows = self.rows[len(self.stages) + len(self.monitors) :]
        return dict(zip(self.shadows, rows, strict=False))

    def shadow_meters(self) -> list[ShadowMeter]:
        """Return one meter a shadow."""
        return [ShadowMeter(row) for row in self.shadow_rows().values()]


def shadow_report(blocks: list[MeterBlock], paths: list[str]) -> dict[str, dict[str, Any]]:
    """Return the report's ``shadows``: how the decisions of each overlap with those that count."""
    rows: dict[str, list[Array]] = {}
    for block in blocks:
        for name, row in block.shadow_rows().items():
            rows.setdefault(name, []).append(np.array(row))
    return {name: overlap_report(found, paths) for name, found in rows.items()}


class StageTotals(NamedTuple):
    """The meters of one stage, added over workers; times in ns, histograms by bucket."""

    events: int
    batches: int
    truncated: int
    service_ns: int
    wait_ns: int
    service: Array
    wait: Array


class MonitorTotals(NamedTuple):
    """The meters of one monitor, added over workers."""

    n: int
    dropped: int
    sum: float
    recent: float
    values: Array

    @property
    def std(self) -> float:
        """Standard deviation of the values, from the histogram's buckets."""
        centres = edges() * (1 - 1 / 64)
        mean = float(np.average(centres, weights=self.values))
        return float(np.sqrt(np.average((centres - mean) ** 2, weights=self.values)))

    def report(self) -> dict[str, float | int | None]:
        """Return mean, std, recent mean, p50, p99, n and dropped; None where nothing was seen."""
        if not self.n:
            unseen = dict.fromkeys(("mean", "std", "recent", "p50", "p99"))
            return {**unseen, "n": 0, "dropped": self.dropped}
        p50, p99 = (quantile(self.values, q) / MONITOR_SCALE for q in (0.50, 0.99))
        return {
            "mean": self.sum / self.n, "std": self.std, "recent": self.recent, "p50": p50,
            "p99": p99, "n": self.n, "dropped": self.dropped,
        }  # fmt: skip


def _added(blocks: list[MeterBlock]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the rows of stages and of monitors by name, added over workers."""
    stages: dict[str, Array] = {}
    monitors: dict[str, Array] = {}
    for block in blocks:
        names = [(stages, name) for name in block.stages]
        names += [(monitors, name) for name in block.monitors]
        for (into, name), row in zip(names, block.rows, strict=False):
            into[name] = into.get(name, 0) + np.array(row)
    return stages, monitors


def stage_totals(blocks: list[MeterBlock]) -> dict[str, StageTotals]:
    """Return stage name to the sum of its meters over all workers."""
    return {
        stage: StageTotals(
            int(row[0]),
            int(row[1]),
            int(row[-1]),
            int(row[2]),
            int(row[3]),
            row[_HEAD : _HEAD + BUCKETS],
            row[_HEAD + BUCKETS : _HEAD + 2 * BUCKETS],
        )
        for stage, row in _added(blocks)[0].items()
    }


def monitor_totals(blocks: list[MeterBlock]) -> dict[str, MonitorTotals]:
    """Return monitor name to the sum of its meters over all workers."""
    found = {}
    for name, row in _added(blocks)[1].items():
        seen = [block for block in blocks if name in block.monitors and block.seen(name)]
        recent = [int(block.row_of(name)[3]) for block in seen]
        found[name] = MonitorTotals(
            int(row[0]),
            int(row[1]),
            int(row[2]) / MONITOR_SCALE,
            sum(recent) / len(recent) / MONITOR_SCALE if recent else 0.0,
            row[_HEAD : _HEAD + BUCKETS],
        )
    return found


def stage_report(blocks: list[MeterBlock]) -> dict[str, dict[str, object]]:
    """Return the report's ``stages``: events, batches, quantiles of service and wait in seconds."""
    report: dict[str, dict[str, object]] = {}
    for stage, total in stage_totals(blocks).items():
        report[stage] = {
            "events": total.events,
            "batches": total.batches,
            "truncated": total.truncated,
            "service_s": _quantiles(total.service),
            "wait_s": _quantiles(total.wait),
        }
    return report


def _quantiles(counts: Array) -> dict[str, float]:
    return {"p50": quantile(counts, 0.50) / 1e9, "p99": quantile(counts, 0.99) / 1e9}
