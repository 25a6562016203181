"""Counting in shared memory: one block a worker, one writer each, read by the daemon at a scrape."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from sluice.kernels.histogram import BUCKETS, bucket_of, quantile
from sluice.kernels.jit import kernel, value, writes

from .batch import Array

#: A meter is a row of uint64: events, batches, service ns, wait ns, then two histograms.
_HEAD = 4
_ROW = _HEAD + 2 * BUCKETS


@kernel((writes("u8", 1), value("i8"), value("i8"), value("i8")))
def _count(meter: Array, events: int, service_ns: int, wait_ns: int) -> None:
    meter[0] += np.uint64(events)
    meter[1] += np.uint64(1)
    meter[2] += np.uint64(max(0, service_ns))
    meter[3] += np.uint64(max(0, wait_ns))
    meter[_HEAD + bucket_of(service_ns)] += np.uint64(1)
    meter[_HEAD + BUCKETS + bucket_of(wait_ns)] += np.uint64(1)


class StageMeter:
    """Service time and wait of one stage in one process: histograms over batches.

    Parameters
    ----------
    row
        A meter, in memory that others may read.
    """

    def __init__(self, row: Array) -> None:
        self._row = row

    def record(self, events: int, service_ns: int, wait_ns: int) -> None:
        """Count one batch."""
        _count(self._row, events, service_ns, wait_ns)


class MeterBlock:
    """The meters of one worker in a memory-mapped file, so that another process can read them.

    Parameters
    ----------
    stages
        Names of the stages, in order.
    path
        The file; None for memory of this process alone.
    create
        Make the file anew (the writer does), or open what is there.
    """

    def __init__(self, stages: list[str], path: Path | None = None, *, create: bool = True) -> None:
        self.stages = stages
        shape = (max(1, len(stages)), _ROW)
        self.rows: Array = np.zeros(shape, np.uint64)
        if path is not None:
            mapped = np.memmap(path, np.uint64, "w+" if create else "r", shape=shape)
            self.rows = mapped.view(np.ndarray)

    def meters(self) -> list[StageMeter]:
        """Return one meter a stage."""
        return [StageMeter(self.rows[i]) for i in range(len(self.stages))]


class StageTotals(NamedTuple):
    """The meters of one stage, added over workers; times in ns, histograms by bucket."""

    events: int
    batches: int
    service_ns: int
    wait_ns: int
    service: Array
    wait: Array


def totals(blocks: list[MeterBlock]) -> dict[str, StageTotals]:
    """Return stage name to the sum of its meters over all workers."""
    rows: dict[str, Array] = {}
    for block in blocks:
        for index, stage in enumerate(block.stages):
            rows[stage] = rows.get(stage, 0) + np.asarray(block.rows[index])
    return {
        stage: StageTotals(
            *map(int, row[:_HEAD]), row[_HEAD : _HEAD + BUCKETS], row[_HEAD + BUCKETS :]
        )
        for stage, row in rows.items()
    }


def stage_report(blocks: list[MeterBlock]) -> dict[str, dict[str, object]]:
    """Return the report's ``stages``: events, batches, quantiles of service and wait in seconds."""
    report: dict[str, dict[str, object]] = {}
    for stage, total in totals(blocks).items():
        report[stage] = {
            "events": total.events,
            "batches": total.batches,
            "service_s": _quantiles(total.service),
            "wait_s": _quantiles(total.wait),
        }
    return report


def _quantiles(counts: Array) -> dict[str, float]:
    return {"p50": quantile(counts, 0.50) / 1e9, "p99": quantile(counts, 0.99) / 1e9}
