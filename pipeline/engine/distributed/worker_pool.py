"""All processes of a run: sink and workers of this host, and the workers of others that joined."""

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
from .supervisor import READY_S, SINK, Supervisor
from .swap_coordinator import SwapCoordinator

_LOG = logging.getLogger("sluice.engine")


class WorkerPool:
    """Who works for the run, who is gone, and what becomes of their batches.

    Parameters
    ----------
    plan
        The run.
    hub
        The way to all of them.
    dispatch, swaps
        They hear who comes and goes.

    Attributes
    ----------
    own
        The processes that this engine started.
    guests
        The workers of other hosts.
    """

    def __init__(
        self, plan: RunContext, hub: Router, dispatch: Dispatcher, swaps: SwapCoordinator
    ) -> None:
        hang_s = parse_duration(plan.graph.config.workers.hang_timeout, "workers.hang_timeout")
        self._hub, self._dispatch, self._swaps = hub, dispatch, swaps
        self._pulse = Liveness(hang_s)
        self._segments = set(range(max(1, len(plan.graph.config.workers.chain))))
        self.hang_s = hang_s
        self.own = Supervisor(plan, swaps.epochs)
        self.guests = RemoteWorkers(plan, hub, swaps, dispatch, hang_s)

    @property
    def sink(self) -> Process:
        """The sink's process."""
        return self.own[SINK]

    @property
    def working(self) -> bool:
        """Whether the sink is ready, and a worker of each segment."""
        return self.sink.ready and {*self.own.ready, *self.guests.segments} == self._segments

    @property
    def everyone(self) -> list[str] | None:
        """Names of sink and workers; None while one here is not ready, or without any worker."""
        own = self.own.names
        if own is None or not (self.own.ready or self.guests.ready):
            return None
        return [*own, *self.guests.ready]

    def welcome(self, name: str) -> None:
        """Note that a process of this host is ready."""
        self.own.welcome(name)
        self._swaps.welcome(name, self.own[name].spec.epoch)
        self.own[name].log_ready()

    def heard(self, name: str) -> None:
        """Note that somebody spoke; who is not ready takes its time, and is not watched."""
        if name in self.guests.ready or (name in self.own and self.own[name].ready):
            self._pulse.seen(name, time.monotonic())

    def on_remote_message(self, name: str, header: Header, payload: Sequence[memoryview]) -> None:
        """Take the word of a worker of another host: never more than its own loss.

        Raises
        ------
        ProtocolError
            If it makes no sense.
        """
        if name in self.own:
            self.guests.refuse(name, f"the name {name!r} is taken")
        elif name in self.guests and header.kind == Kind.JOIN:  # it has come again
            self._forget(name)
            self.guests.drop(name)
            self.guests.hear(name, header, payload)
        elif name in self.guests and header.kind in (Kind.STOP, Kind.ERROR):
            self._disconnect(name)
        elif name in self.guests and header.kind == Kind.CREDIT:
            self._dispatch.credit(name, Credit.from_header(header))
        elif name in self.guests and header.kind == Kind.RESULT:
            result = Result.from_header(header)
            try:
                self._dispatch.check_result(result, payload, self.guests.segment_of(name))
            except ProtocolError:
                self._disconnect(name)
                raise
            self._dispatch.on_segment_result(name, result, payload)
        else:
            self.guests.hear(name, header, payload)

    def supervise(self) -> None:
        """Take the batches of the dead back, start the dead again, give up on who is silent.

        Raises
        ------
        RunError
            If no restarts are left.
        """
        for process in self.own.exited:
            process.log_exit(self._dispatch.flights.assigned(process.name))
            self._forget(process.name)
            self.own.on_exit(process)
        self.own.restart_due(self._dispatch.settled)
        now = time.monotonic()
        for name in self._pulse.timed_out(now):
            if name in self.own:
                self._pulse.forget(name)
                self.own[name].kill(f"nothing was heard of it for {self.hang_s:g} s")
            else:
                self._disconnect(name)
        for name in self.guests.late(now - READY_S):
            self._disconnect(name)
        self.guests.beat(now)

    def end(self, *, failed: bool) -> None:
        """Tell every process of this host to stop; kill those that do not."""
        self.own.end(self._hub, failed=failed)

    def _disconnect(self, name: str) -> None:
        """Let go of a worker of another host; should it live, it learns that it may end."""
        batches = self._dispatch.flights.assigned(name)
        text = "remote worker {worker!r} is gone; {batches} batches reclaimed"
        limiter.warn(_LOG, "remote-worker-gone", text, worker=name, batches=batches)
        self._forget(name)
        self._hub.send(Header(Kind.STOP), to=name.encode())
        self.guests.drop(name)

    def _forget(self, name: str) -> None:
        """Expect nothing any more of somebody who is gone."""
        self._dispatch.reclaim(name)
        self._swaps.on_worker_exit(name)
        self._pulse.forget(name)
