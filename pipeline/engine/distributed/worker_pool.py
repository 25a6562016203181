"""All processes of a run: local sink and workers, and the remote workers that have joined."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from sluice.pipeline.config.durations import parse_duration
from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.core.log import limiter
from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.engine.workers.router import Router
from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.run_messages import Credit, Result

from .dispatcher import Dispatcher
from .liveness import Liveness
from .process import Process
from .remote_workers import RemoteWorkers
from .supervisor import READY_TIMEOUT_S, SINK, Supervisor
from .swap_coordinator import SwapCoordinator

_LOG = logging.getLogger("sluice.engine")


class WorkerPool:
    """Processes of the run: tracks which are ready, and reclaims the batches of those that exit.

    Parameters
    ----------
    context
        The run.
    router
        Sends to the processes.
    dispatcher, swaps
        Notified of workers that become ready or exit.

    Attributes
    ----------
    local
        Processes that this engine has started.
    remote
        Workers of other hosts.
    hang_timeout_s
        Time without a message after which a process is killed, s.
    """

    def __init__(
        self, context: RunContext, router: Router, dispatcher: Dispatcher, swaps: SwapCoordinator
    ) -> None:
        hang_timeout_s = parse_duration(
            context.graph.config.workers.hang_timeout, "workers.hang_timeout"
        )
        self._router, self._dispatcher, self._swaps = router, dispatcher, swaps
        self._liveness = Liveness(hang_timeout_s)
        self._segments = set(range(max(1, len(context.graph.config.workers.chain))))
        self.hang_timeout_s = hang_timeout_s
        self.local = Supervisor(context, swaps.epochs)
        self.remote = RemoteWorkers(context, router, swaps, dispatcher, hang_timeout_s)

    @property
    def sink(self) -> Process:
        """The sink's process."""
        return self.local[SINK]

    @property
    def working(self) -> bool:
        """Whether the sink and at least one worker of each segment are ready."""
        return (
            self.sink.ready
            and {*self.local.ready_segments, *self.remote.segments} == self._segments
        )

    @property
    def all_ready(self) -> list[str] | None:
        """Names of sink and workers; None while a local process is not ready or no worker is."""
        own = self.local.names
        if own is None or not (self.local.ready_segments or self.remote.ready):
            return None
        return [*own, *self.remote.ready]

    def on_ready(self, name: str) -> None:
        """Record that a local process is ready."""
        self.local.on_ready(name)
        self._swaps.on_worker_ready(name, self.local[name].spec.epoch)
        self.local[name].log_ready()

    def record_message(self, name: str) -> None:
        """Record a message from a worker. Workers still starting are not subject to the timeout."""
        if name in self.remote.ready or (name in self.local and self.local[name].ready):
            self._liveness.seen(name, time.monotonic())

    def on_remote_message(self, name: str, header: Header, payload: Sequence[memoryview]) -> None:
        """Handle a message of a remote worker; an error costs that worker only.

        Raises
        ------
        ProtocolError
            If the message is not one that this worker may send now.
        """
        if name in self.local:
            self.remote.reject(name, f"the name {name!r} is taken")
        elif (
            name in self.remote and header.kind == Kind.JOIN
        ):  # it has started again under the same name
            self._forget(name)
            self.remote.remove(name)
            self.remote.on_message(name, header, payload)
        elif name in self.remote and header.kind in (Kind.STOP, Kind.ERROR):
            self._disconnect(name)
        elif name in self.remote and header.kind == Kind.CREDIT:
            self._dispatcher.on_credit(name, Credit.from_header(header))
        elif name in self.remote and header.kind == Kind.RESULT:
            result = Result.from_header(header)
            try:
                self._dispatcher.check_result(result, payload, self.remote.segment_of(name))
            except ProtocolError:
                self._disconnect(name)
                raise
            self._dispatcher.on_segment_result(name, result, payload)
        else:
            self.remote.on_message(name, header, payload)

    def supervise(self) -> None:
        """Reclaim the batches of exited workers, restart due processes, end timed-out ones.

        Raises
        ------
        RunError
            If no restarts are left.
        """
        for process in self.local.exited:
            process.log_exit(self._dispatcher.in_flight.assigned(process.name))
            self._forget(process.name)
            self.local.on_exit(process)
        self.local.restart_due(self._dispatcher.first_uncommitted)
        now = time.monotonic()
        for name in self._liveness.timed_out(now):
            if name in self.local:
                self._liveness.forget(name)
                self.local[name].kill(f"no message for {self.hang_timeout_s:g} s")
            else:
                self._disconnect(name)
        for name in self.remote.not_ready_since(now - READY_TIMEOUT_S):
            self._disconnect(name)
        self.remote.send_heartbeats(now)

    def end(self, *, failed: bool) -> None:
        """Send STOP to every local process; kill those that do not end in time."""
        self.local.end(self._router, failed=failed)

    def _disconnect(self, name: str) -> None:
        """Remove a remote worker; send STOP in case it is still running."""
        batches = self._dispatcher.in_flight.assigned(name)
        text = "remote worker {worker!r} is gone; {batches} batches reclaimed"
        limiter.warn(_LOG, "remote-worker-gone", text, worker=name, batches=batches)
        self._forget(name)
        self._router.send(Header(Kind.STOP), to=name.encode())
        self.remote.remove(name)

    def _forget(self, name: str) -> None:
        """Reclaim the batches of a worker that is gone, and stop waiting for it."""
        self._dispatcher.reclaim(name)
        self._swaps.on_worker_exit(name)
        self._liveness.forget(name)
