"""Monitors behind a lossy, counted edge: a thread with a short queue never blocks physics."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from sluice.kernels.hashing import salt, sample_mask
from sluice.pipeline.core.batch import EventBatch, Outcome, concatenate
from sluice.pipeline.core.schema import OUTCOME
from sluice.pipeline.metrics.meters import MonitorMeter
from sluice.pipeline.metrics.shadow_meter import ShadowMeter
from sluice.pipeline.stages.base import Monitor
from sluice.pipeline.system.cpu_scheduling import change_policy

Meter = MonitorMeter | ShadowMeter

#: Samples that may wait; beyond that they are dropped, counted.
_QUEUE = 16
#: A sample is shown when it has this many events, or has gathered for this long: to wake a thread
#: takes as long as to choose a sample.
_ENOUGH = 1024
_GATHER_S = 0.2
_DRAIN_S = 10.0
#: Outcomes from here on are of events that no stage has judged; NumPy compares bytes with a byte.
_UNJUDGED = np.uint8(Outcome.SHED)


@dataclass(slots=True)
class _Subscription:
    """One monitor, and the sample that gathers for it."""

    monitor: Monitor
    meter: Meter
    salt: int
    pending: list[EventBatch] = field(default_factory=list)
    events: int = 0
    shown_at: float = 0.0


class MonitorRunner:
    """Shows a sample of judged events to the monitors, in a thread of its own.

    Parameters
    ----------
    monitors
        Opened and closed with the watcher.
    meters
        One a monitor; what it saw goes there.
    """

    def __init__(self, monitors: Sequence[Monitor], meters: Sequence[Meter]) -> None:
        self._taps = [
            _Subscription(monitor, meter, salt(f"monitor/{monitor.name}"))
            for monitor, meter in zip(monitors, meters, strict=True)
        ]
        self._queue: queue.Queue[tuple[_Subscription, list[EventBatch]] | None] = queue.Queue(
            _QUEUE
        )
        self._thread = threading.Thread(target=self._watch, name="sluice-monitors", daemon=True)

    def open(self, events: int) -> None:
        """Open the monitors and start the thread; on failure close those that were opened."""
        opened: list[Monitor] = []
        try:
            for tap in self._taps:
                tap.monitor.open(events)
                opened.append(tap.monitor)
        except BaseException:
            for monitor in opened:
                monitor.close()
            raise
        if self._taps:
            self._thread.start()

    def offer(self, batch: EventBatch) -> None:
        """Give each monitor its sample of a judged batch, copied; never waits."""
        now = time.monotonic()
        for tap in self._taps:
            monitor = tap.monitor
            mask = np.empty(batch.events, np.bool_)
            sample_mask(batch["event_id"], tap.salt, monitor.sample, mask)
            (rows,) = mask.nonzero()
            rows = rows[batch[OUTCOME.name][rows] < _UNJUDGED]
            if len(rows):
                tap.pending.append(batch.select(monitor.consumes.names).take(rows))
                tap.events += len(rows)
            if tap.events >= _ENOUGH or (tap.events and now - tap.shown_at > _GATHER_S):
                self._show(tap, now)

    def close(self) -> None:
        """Let the monitors see what waits, at most ten seconds long, then close them."""
        for tap in self._taps:
            self._show(tap, time.monotonic())
        if self._thread.is_alive():
            with suppress(queue.Full):  # it hangs; the process ends without it
                self._queue.put(None, timeout=_DRAIN_S)
            self._thread.join(_DRAIN_S)
        for tap in self._taps:
            tap.monitor.close()

    def _show(self, tap: _Subscription, now: float) -> None:
        """Hand a tap's sample to the thread, or drop it if the queue is full."""
        if tap.events:
            try:
                self._queue.put_nowait((tap, tap.pending))
            except queue.Full:
                tap.meter.drop(tap.events)
        tap.pending, tap.events, tap.shown_at = [], 0, now

    def _watch(self) -> None:
        change_policy(os.SCHED_OTHER, os.SCHED_BATCH)  # a sample must not interrupt physics
        while (task := self._queue.get()) is not None:
            tap, gathered = task
            batch = concatenate(gathered)
            try:
                values = tap.monitor.observe(batch)
            except Exception:  # a broken monitor must not harm the run; it shows as dropped
                tap.meter.drop(batch.events)
            else:
                tap.meter.record(values[np.isfinite(values)])
