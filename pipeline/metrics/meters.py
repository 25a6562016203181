"""Counting in shared memory: one block a worker, one writer each, read by the daemon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from sluice.kernels.compiler.jit import input_array, kernel, output_array, scalar
from sluice.kernels.histogram import BUCKETS, bucket_of, record_scaled
from sluice.pipeline.core.schema import Array

from .shadow_meter import ShadowMeter

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


@kernel((output_array("u8", 2), scalar("i8"), input_array("i8", 1)))
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

    def truncation_counter(self, stage: int) -> Array:
        """Return where a stage counts events that had a list cut, uint64 (1,)."""
        counter: Array = self.rows[stage, -1:]
        return counter

    def row(self, monitor: str) -> Array:
        """Return the meter of a monitor."""
        row: Array = self.rows[len(self.stages) + self.monitors.index(monitor)]
        return row

    def count(self, monitor: str) -> int:
        """Return how many values a monitor has seen here."""
        return int(self.row(monitor)[0])

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
