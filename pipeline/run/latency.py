"""Latency of committed events: from the event, or from ingest, to the decision."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct

from sluice.kernels.histogram import (
    BUCKETS,
    LARGEST_AGE_NS,
    quantile,
    record,
    record_ages,
    record_stamped_ages,
)
from sluice.pipeline.core.schema import Array

#: Quantiles of the latency in the report, by key.
_QUANTILES = {"p50": 0.50, "p99": 0.99, "p999": 0.999}
#: Clock of `t_event` where front ends stamp: Unix time.
EVENT_CLOCK = "CLOCK_REALTIME"


class LatencyTotals(Struct, frozen=True, kw_only=True):
    """Time to the decision, over all committed events that have the start.

    Attributes
    ----------
    counts
        Histogram of `sluice.kernels.histogram`, uint64 (BUCKETS,), read-only.
    max_ns, sum_ns
        Largest latency and sum of all latencies, ns.
    clock
        Clock on which both ends were read: ``CLOCK_MONOTONIC``, or ``CLOCK_TAI`` as soon as a
        worker of another host is ready; `EVENT_CLOCK` from the event.
    """

    counts: Array
    max_ns: int
    sum_ns: int
    clock: str

    def report(self) -> dict[str, Any]:
        """Return the report's ``latency_s``, in seconds.

        A quantile is at most the maximum, which the upper edge of its bucket may exceed.
        """
        quantiles_ns = {name: quantile(self.counts, q) for name, q in _QUANTILES.items()}
        return {
            **{name: min(ns, self.max_ns) / 1e9 for name, ns in quantiles_ns.items()},
            "max": self.max_ns / 1e9,
            "clock": self.clock,
        }


class LatencyMeter:
    """Counts the latencies of a run from one start; to be called under the lock of the run."""

    __slots__ = ("_counts", "_max_ns", "_sum_ns")

    def __init__(self) -> None:
        self._counts = np.zeros(BUCKETS, np.uint64)
        self._max_ns = self._sum_ns = 0

    def record(self, decided_ns: int, start_ns: Array) -> None:
        """Count the time from each start, (N,) int64, to the decision; both of one clock, ns."""
        if start_ns.size and start_ns.strides == (0,):  # read at once: one age for all
            oldest_ns = min(max(0, decided_ns - int(start_ns[0])), LARGEST_AGE_NS)
            record(self._counts, oldest_ns, start_ns.size)
            self._add(oldest_ns, oldest_ns * start_ns.size)
        else:
            self._add(*record_ages(self._counts, decided_ns, start_ns))

    def record_stamped(self, decided_ns: int, t_event: Array) -> None:
        """Count the time from each `t_event` that is a Unix time, (N,) int64 ns, to the decision.

        Parameters
        ----------
        decided_ns
            Time of the decision, Unix ns.
        t_event
            Stamps of the front ends; those of another clock are left out.
        """
        self._add(*record_stamped_ages(self._counts, decided_ns, t_event))

    def _add(self, oldest_ns: int, total_ns: int) -> None:
        self._max_ns = max(self._max_ns, oldest_ns)
        self._sum_ns += total_ns

    def totals(self, clock: str) -> LatencyTotals:
        """Return what was counted so far."""
        counts = self._counts.copy()
        counts.flags.writeable = False
        return LatencyTotals(counts=counts, max_ns=self._max_ns, sum_ns=self._sum_ns, clock=clock)
