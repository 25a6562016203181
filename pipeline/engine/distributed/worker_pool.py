"""All processes of a run: local sink and workers, and the remote workers that have joined."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from sluice.pipeline.config.durations import parse_duration
from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.core.log import limiter
from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.engine.workers.join import JoinRequest
from sluice.pipeline.transport.protocol import Header, Kind, pack_json, unpack_json
from sluice.pipeline.transport.run_messages import Credit, Result

from .dispatcher import Dispatcher
from .liveness import Liveness
from .process import Process
from .remote_workers import MAX_WORKERS, RemoteWorkers
from .sessions import Sessions
from .supervisor import READY_TIMEOUT_S, SINK, Supervisor
from .swap_coordinator import SwapCoordinator

_LOG = logging.getLogger("sluice.engine")


class WorkerPool:
    """Processes of the run: tracks which are ready, and reclaims the batches of those that exit.

    Parameters
    ----------
    context
        The run.
    sessions
        Sends to the processes.
    token_secret
        Secret of the tokens of batches, for the sink.
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
        self, context: RunContext, sessions: Sessions, token_secret: bytes,
        dispatcher: Dispatcher, swaps: SwapCoordinator,
    ) -> None:  # fmt: skip
        hang_timeout_s = parse_duration(
            context.graph.config.workers.hang_timeout, "workers.hang_timeout"
        )
        self._sessions, self._dispatcher, self._swaps = sessions, dispatcher, swaps
        self._liveness = Liveness(hang_timeout_s)
        self._segments = set(range(max(1, len(context.graph.config.workers.chain))))
        self.hang_timeout_s = hang_timeout_s
        self.local = Supervisor(context, swaps.epochs, sessions, token_secret)
        self.remote = RemoteWorkers(context, sessions, swaps, dispatcher, hang_timeout_s)

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

    def on_join(self, identity: bytes, header: Header, payload: Sequence[memoryview]) -> None:
        """Let a worker of another host join; a newer process of a name replaces an older one.

        Raises
        ------
        ProtocolError
            If it may not join.
        """
        request = unpack_json(payload, JoinRequest, "JOIN")
        if self._sessions.name_of(identity, remote=True) is not None:
            raise ProtocolError(f"JOIN of {request.name!r}: it has joined already")
        why = self._reason_to_refuse(request)
        if why:
            self._sessions.refuse(identity, header, why)
            raise ProtocolError(f"JOIN of {request.name!r}: {why}")
        if request.name in self.remote:
            self._disconnect(request.name, "a newer process has the name of this worker")
        self.remote.join(request, identity, header)

    def on_remote_message(self, name: str, header: Header, payload: Sequence[memoryview]) -> None:
        """Handle a message of a remote worker; an error costs that worker only.

        Raises
        ------
        ProtocolError
            If the message is not one that this worker may send now.
        """
        if header.kind in (Kind.STOP, Kind.ERROR):
            self._disconnect(name)
        elif header.kind == Kind.CREDIT:
            self._dispatcher.on_credit(name, Credit.from_header(header))
        elif header.kind == Kind.RESULT:
            result = Result.from_header(header)
            self._dispatcher.verify_result(name, result)
            try:
                self._dispatcher.check_result(result, payload, self.remote.segment_of(name))
            except ProtocolError as error:
                self._disconnect(name, error.message)
                raise
            self._dispatcher.take_result(name, result, payload)
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
            suspect = self._dispatcher.is_suspect(process.name)
            self._forget(process.name)
            self._sessions.close(process.name)
            self.local.on_exit(process, suspect=suspect)
        self.local.restart_due(self._dispatcher.first_uncommitted)
        now = time.monotonic()
        for name in self._liveness.timed_out(now):
            if name in self.local:
                self._liveness.forget(name)
                self.local[name].kill(f"no message for {self.hang_timeout_s:g} s")
            else:
                self._disconnect(name, f"no message for {self.hang_timeout_s:g} s")
        for name in self.remote.not_ready_since(now - READY_TIMEOUT_S):
            self._disconnect(name, f"not ready after {READY_TIMEOUT_S:g} s")
        self.remote.send_heartbeats(now)

    def disconnect_busy(self) -> None:
        """End the sessions of the remote workers to which batches in flight were sent.

        A connection that broke may have lost the batches or their results; so they are sent again.
        """
        in_flight = self._dispatcher.in_flight
        for name in self.remote.names:
            if name in in_flight.workers or not in_flight.is_idle(name):
                self._disconnect(name, "its batches did not come back")

    def end(self, *, failed: bool) -> None:
        """Send STOP to every local process; kill those that do not end in time."""
        self.local.end(failed=failed)

    def _reason_to_refuse(self, request: JoinRequest) -> str:
        """Return why a worker may not join; empty if it may."""
        name = request.name
        if name in self.local:
            return f"the name {name!r} is taken by a process on the host of the run"
        if name in self.remote:
            if request.started_ns <= self.remote.started_ns(name):
                return f"the name {name!r} is taken by a process that started later"
        elif self.remote.full:
            return f"expected at most {MAX_WORKERS} workers of other hosts, got one more"
        return ""

    def _disconnect(self, name: str, why: str = "") -> None:
        """End the session of a remote worker; tell it why, if it may be running still."""
        batches = self._dispatcher.in_flight.assigned(name)
        text = "remote worker {worker!r} is gone; {batches} batches reclaimed"
        limiter.warn(_LOG, "remote-worker-gone", text, worker=name, batches=batches)
        if why:
            self._sessions.send(name, Header(Kind.ERROR), pack_json({"message": why}))
        self._forget(name)
        self.remote.remove(name)

    def _forget(self, name: str) -> None:
        """Reclaim the batches of a worker that is gone, and stop waiting for it."""
        self._dispatcher.reclaim(name)
        self._swaps.on_worker_exit(name)
        self._liveness.forget(name)
