"""State of a run to which its time is counted: live, paused, busy or down."""

from __future__ import annotations

import time

from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.run.ledger import RunTime

from .dispatcher import Dispatcher
from .liveness import StallWatchdog
from .worker_pool import WorkerPool

#: Shortest time without a commit, although batches are in flight, that counts as down, s; and the
#: same in service times of a full batch, so that long batches count as live.
_MIN_STALL_S, _STALL_BATCHES = 1.0, 4.0
#: Time between two calls above which this process must have been suspended itself, ns.
_SUSPENDED_NS = 1_000_000_000


class StateClock:
    """Counts the time of a run to its states.

    Parameters
    ----------
    context
        The run.
    pool
        Processes of the run.
    dispatcher
        Batches in flight, and the service times of the workers.
    watchdog
        Knows when the latest batch was committed.
    """

    def __init__(
        self, context: RunContext, pool: WorkerPool, dispatcher: Dispatcher, watchdog: StallWatchdog
    ) -> None:
        self._context, self._pool = context, pool
        self._dispatcher, self._watchdog = dispatcher, watchdog
        self._last_ns = time.monotonic_ns()

    def record(self) -> None:
        """Count the time since the last call, and go to the state that holds now."""
        now_ns, accounting = time.monotonic_ns(), self._context.accounting
        if now_ns - self._last_ns > _SUSPENDED_NS and not self._context.control.paused:
            accounting.enter_state(RunTime.DOWN, self._last_ns)
        self._last_ns = now_ns
        accounting.enter_state(self._state(), now_ns)

    def _state(self) -> RunTime:
        if self._context.control.paused:
            return RunTime.PAUSED
        if not self._pool.working or self._is_stalled():
            return RunTime.DOWN
        return RunTime.BUSY if self._dispatcher.in_flight.blocked else RunTime.LIVE

    def _is_stalled(self) -> bool:
        """Whether batches are in flight and none was committed for longer than they take."""
        stall_s = self._watchdog.without_commit_s
        if stall_s < _MIN_STALL_S or not self._dispatcher.in_flight:
            return False
        return stall_s > _STALL_BATCHES * self._dispatcher.reader.batching.full_service_s
