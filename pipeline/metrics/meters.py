"""Meters in shared memory: one block for each worker, which alone writes to it."""

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

#: Counters before the histograms of a meter, which is a row of uint64. Stage: events, batches,
#: service time and wait in ns, two histograms, events with numbers that are not finite, events with
#: a truncated list. Monitor: values, dropped events, sum of values and recent mean in units of
#: 1e-9, one histogram.
COUNTERS = 4
_ROW_WORDS = COUNTERS + 2 * BUCKETS + 2
#: Factor from the value of a monitor to ns, so that the buckets of the latency histogram, 1 us to
#: 60 s, hold values from 1e-6 to 60.
MONITOR_SCALE = 1e9
#: Number of values that the recent mean of a monitor averages over.
RECENT_VALUES = 1000


@kernel((output_array("u8", 2), scalar("i8"), input_array("i8", 1)))
def _record_stages(meters: Array, events: int, times_ns: Array) -> None:
    before = times_ns[0]
    for stage in range(times_ns.size - 2):
        meter = meters[stage]
        start, end = times_ns[stage + 1], times_ns[stage + 2]
        service, wait = max(0, end - start), max(0, start - before)
        meter[0] += np.uint64(events)
        meter[1] += np.uint64(1)
        meter[2] += np.uint64(service)
        meter[3] += np.uint64(wait)
        meter[COUNTERS + bucket_of(service)] += np.uint64(1)
        meter[COUNTERS + BUCKETS + bucket_of(wait)] += np.uint64(1)
        before = end


class MonitorMeter:
    """Meter of one monitor in one process: its values and the events that it dropped.

    Parameters
    ----------
    row
        Row of a `MeterBlock`, uint64.
    """

    def __init__(self, row: Array) -> None:
        self._row = row
        self._values: Array = row[COUNTERS : COUNTERS + BUCKETS]

    def record(self, values: Array) -> None:
        """Count values: float32 (N,), finite and not negative."""
        if not len(values):
            return
        total = float(values.sum(dtype=np.float64)) * MONITOR_SCALE
        self._row[0] += np.uint64(len(values))
        self._row[2] += np.uint64(round(total))
        # Until there are enough values, the recent mean is the mean of all.
        weight = max(len(values) / int(self._row[0]), 1 - math.exp(-len(values) / RECENT_VALUES))
        recent = int(self._row[3])
        self._row[3] = np.uint64(round(recent + weight * (total / len(values) - recent)))
        record_scaled(self._values, values, MONITOR_SCALE)

    def drop(self, events: int) -> None:
        """Count sampled events that the monitor did not observe."""
        self._row[1] += np.uint64(events)


class MeterBlock:
    """Meters of one worker in a memory-mapped file, so that another process can read them.

    Parameters
    ----------
    stages, monitors, shadows
        Names of stages, monitors and shadows, in order.
    path
        Path of the file; None for memory of this process alone.
    create
        Open the file for writing, and create it if it does not exist; else open it for reading. A
        restarted worker adds to the counts of the one before.

    Attributes
    ----------
    rows
        One meter for each stage, monitor and shadow, uint64.
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
        shape = (max(1, len(stages) + len(monitors) + len(shadows)), _ROW_WORDS)
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
            Number of events of the batch.
        times_ns
            Times at which the batch began to wait, the first stage began, and each stage ended,
            int64 (stages + 2,), CLOCK_MONOTONIC, ns.
        """
        _record_stages(self.rows, events, times_ns)

    def record_not_finite(self, stage: int, events: int) -> None:
        """Count events with a NaN or an infinity in the columns of a stage."""
        self.rows[stage, -2] += np.uint64(events)

    def truncation_counter(self, stage: int) -> Array:
        """Return the counter of events with a truncated list of a stage, uint64 (1,)."""
        counter: Array = self.rows[stage, -1:]
        return counter

    def row(self, monitor: str) -> Array:
        """Return the row of a monitor, uint64."""
        row: Array = self.rows[len(self.stages) + self.monitors.index(monitor)]
        return row

    def count(self, monitor: str) -> int:
        """Return the number of values that a monitor returned in this process."""
        return int(self.row(monitor)[0])

    def monitor_meters(self) -> list[MonitorMeter]:
        """Return the meter of each monitor, in order."""
        return [MonitorMeter(row) for row in self.rows[len(self.stages) :][: len(self.monitors)]]

    def shadow_rows(self) -> dict[str, Array]:
        """Return the row of each shadow by its name."""
        rows = self.rows[len(self.stages) + len(self.monitors) :]
        return dict(zip(self.shadows, rows, strict=False))

    def shadow_meters(self) -> list[ShadowMeter]:
        """Return the meter of each shadow, in order."""
        return [ShadowMeter(row) for row in self.shadow_rows().values()]
