"""Monitors in a thread of their own: samples beyond a short queue are dropped and counted."""

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

#: Samples that may wait for the thread; later ones are dropped, so that memory is bounded.
_QUEUE_SAMPLES = 16
#: A sample is handed over at this many events, or after this time: waking the thread costs as much
#: as drawing the sample of a batch.
_SAMPLE_EVENTS = 1024
_SAMPLE_S = 0.2
#: Time the thread has at the end of the run for the samples that wait.
_DRAIN_S = 10.0
#: Smallest outcome of an event that was not decided. A NumPy byte, so that the comparison with an
#: array of bytes stays in bytes.
_FIRST_UNDECIDED = np.uint8(Outcome.SHED)


@dataclass(kw_only=True, slots=True)
class _Subscription:
    """One monitor, and the sample that is being collected for it."""

    monitor: Monitor
    meter: Meter
    salt: int
    pending: list[EventBatch] = field(default_factory=list)
    events: int = 0
    handed_over_s: float = 0.0


class MonitorRunner:
    """Runs the monitors on a sample of the processed events, in a separate thread.

    Parameters
    ----------
    monitors
        Monitors; opened and closed with the runner.
    meters
        Meter of each monitor: the values that it returned, the events that it could not take.
    """

    def __init__(self, monitors: Sequence[Monitor], meters: Sequence[Meter]) -> None:
        self._subscriptions = [
            _Subscription(monitor=monitor, meter=meter, salt=salt(f"monitor/{monitor.name}"))
            for monitor, meter in zip(monitors, meters, strict=True)
        ]
        self._queue: queue.Queue[tuple[_Subscription, list[EventBatch]] | None] = queue.Queue(
            _QUEUE_SAMPLES
        )
        self._thread = threading.Thread(target=self._observe, name="sluice-monitors", daemon=True)

    def open(self, max_events: int) -> None:
        """Open the monitors and start the thread; if one fails, close those that are open."""
        opened: list[Monitor] = []
        try:
            for subscription in self._subscriptions:
                subscription.monitor.open(max_events)
                opened.append(subscription.monitor)
        except BaseException:
            for monitor in opened:
                monitor.close()
            raise
        if self._subscriptions:
            self._thread.start()

    def offer(self, batch: EventBatch) -> None:
        """Add a copy of each monitor's sample of a processed batch; never waits."""
        now_s = time.monotonic()
        for subscription in self._subscriptions:
            monitor = subscription.monitor
            mask = np.empty(batch.events, np.bool_)
            sample_mask(batch["event_id"], subscription.salt, monitor.sample, mask)
            (rows,) = mask.nonzero()
            rows = rows[batch[OUTCOME.name][rows] < _FIRST_UNDECIDED]
            if len(rows):
                subscription.pending.append(batch.select(monitor.consumes.names).take(rows))
                subscription.events += len(rows)
            due = subscription.events and now_s - subscription.handed_over_s > _SAMPLE_S
            if due or subscription.events >= _SAMPLE_EVENTS:
                self._hand_over(subscription, now_s)

    def close(self) -> None:
        """Process the waiting samples for at most ten seconds, then close the monitors."""
        for subscription in self._subscriptions:
            self._hand_over(subscription, time.monotonic())
        if self._thread.is_alive():
            with suppress(queue.Full):  # a monitor hangs; the process ends without it
                self._queue.put(None, timeout=_DRAIN_S)
            self._thread.join(_DRAIN_S)
        for subscription in self._subscriptions:
            subscription.monitor.close()

    def _hand_over(self, subscription: _Subscription, now_s: float) -> None:
        """Give a sample to the thread, or drop it if the queue is full."""
        if subscription.events:
            try:
                self._queue.put_nowait((subscription, subscription.pending))
            except queue.Full:
                subscription.meter.drop(subscription.events)
        subscription.pending, subscription.events = [], 0
        subscription.handed_over_s = now_s

    def _observe(self) -> None:
        change_policy(os.SCHED_OTHER, os.SCHED_BATCH)  # the stages have priority
        while (task := self._queue.get()) is not None:
            subscription, parts = task
            batch = concatenate(parts)
            try:
                values = subscription.monitor.observe(batch)
            except Exception:  # a broken monitor must not end the run; counted as dropped
                subscription.meter.drop(batch.events)
            else:
                subscription.meter.record(values[np.isfinite(values)])
