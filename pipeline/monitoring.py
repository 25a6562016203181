"""Monitors behind a lossy, counted edge: a thread with a short queue never blocks physics."""

from __future__ import annotations

import queue
import threading

import numpy as np

from sluice.kernels.hashing import salt_of, sampled

from .batch import OUTCOME, EventBatch, Outcome
from .metrics import MonitorMeter
from .stages import Monitor

#: Samples that may wait; beyond that they are dropped, counted.
_QUEUE = 64
_DRAIN_S = 10.0


class Watcher:
    """Shows a sample of judged events to the monitors, in a thread of its own.

    Parameters
    ----------
    monitors
        Opened and closed with the watcher.
    meters
        One a monitor; what it saw goes there.
    """

    def __init__(self, monitors: tuple[Monitor, ...], meters: list[MonitorMeter]) -> None:
        self._taps = [
            (monitor, meter, salt_of(f"monitor/{monitor.name}"))
            for monitor, meter in zip(monitors, meters, strict=True)
        ]
        self._queue: queue.Queue[tuple[Monitor, MonitorMeter, EventBatch] | None]
        self._queue = queue.Queue(_QUEUE)
        self._thread = threading.Thread(target=self._watch, name="sluice-monitors", daemon=True)

    def open(self, events: int) -> None:
        """Open the monitors and start the thread; on failure close those that were opened."""
        opened: list[Monitor] = []
        try:
            for monitor, _, _ in self._taps:
                monitor.open(events)
                opened.append(monitor)
        except BaseException:
            for monitor in opened:
                monitor.close()
            raise
        self._thread.start()

    def offer(self, batch: EventBatch) -> None:
        """Give each monitor its sample of a judged batch, copied; never waits."""
        for monitor, meter, salt in self._taps:
            mask = np.empty(batch.events, np.bool_)
            sampled(batch["event_id"], salt, monitor.sample, mask)
            mask &= batch[OUTCOME.name] < Outcome.SHED
            rows = np.flatnonzero(mask)
            if len(rows) == 0:
                continue
            seen = batch.only(monitor.consumes.names).take(rows)
            try:
                self._queue.put_nowait((monitor, meter, seen))
            except queue.Full:
                meter.drop(len(rows))

    def close(self) -> None:
        """Let the monitors see what waits, at most ten seconds long, then close them."""
        self._queue.put(None, timeout=_DRAIN_S)
        self._thread.join(_DRAIN_S)
        for monitor, _, _ in self._taps:
            monitor.close()

    def _watch(self) -> None:
        while (task := self._queue.get()) is not None:
            monitor, meter, batch = task
            try:
                values = monitor.observe(batch)
            except Exception:  # a broken monitor must not harm the run; it shows as dropped
                meter.drop(batch.events)
            else:
                meter.record(values[np.isfinite(values)])
