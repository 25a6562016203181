"""Ingest's side of workers of other hosts: who has joined, what they were told, what they count."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.core.log import limiter
from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.engine.model_swap import SwapReply
from sluice.pipeline.engine.workers.heartbeat import HEARTBEAT_S
from sluice.pipeline.engine.workers.join import JoinReply, JoinRequest, tai_ahead_ns
from sluice.pipeline.engine.workers.process_spec import Times
from sluice.pipeline.engine.workers.router import Router
from sluice.pipeline.graph.segments import split
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.transport.protocol import Header, Kind, pack_json, unpack_json

from .dispatcher import Dispatcher
from .swap_coordinator import SwapCoordinator

_LOG = logging.getLogger("sluice.engine")
#: Workers of other hosts in one run.
_MOST = 1024
_LEAST_SILENCE_S = 5.0


class RemoteWorkers:
    """The workers that have come to a run by themselves.

    Parameters
    ----------
    plan
        The run.
    hub
        How they are reached.
    swaps, dispatch
        They hear which workers come and go, and what batches take.
    silence_s
        A longer silence of either side means that it is gone.
    """

    def __init__(
        self,
        plan: RunContext,
        hub: Router,
        swaps: SwapCoordinator,
        dispatch: Dispatcher,
        silence_s: float,
    ) -> None:
        self._plan = plan
        self._swaps = swaps
        self._dispatch = dispatch
        self._hub = hub
        self._silence_s = silence_s
        self._blocks: dict[str, MeterBlock] = {}
        self._ready: set[str] = set()
        self._began: dict[str, JoinReply] = {}
        self._joined_s: dict[str, float] = {}
        self._graphs = split(plan.graph)
        self._beat_s = 0.0

    def __contains__(self, name: str) -> bool:
        return name in self._blocks

    @property
    def ready(self) -> list[str]:
        """Names of those that are ready."""
        return sorted(self._ready)

    @property
    def segments(self) -> list[int]:
        """The segments of those that are ready."""
        return [self._began[name].segment for name in self._ready]

    def late(self, since_s: float) -> list[str]:
        """Return those that joined before a time and are not ready."""
        return [n for n, at_s in self._joined_s.items() if at_s < since_s and n not in self._ready]

    def segment_of(self, name: str) -> int:
        """Return the segment that a worker runs."""
        return self._began[name].segment

    def hear(self, name: str, header: Header, payload: Sequence[memoryview]) -> None:
        """Take a worker's word; a stranger is told to go.

        Raises
        ------
        ProtocolError
            If it makes no sense.
        """
        if header.kind == Kind.JOIN:
            self._join(name, payload)
        elif name not in self:
            self._hub.reject(Header(Kind.STOP), to=name.encode())
            raise ProtocolError(f"{name!r}: expected JOIN first, got {Kind(header.kind).name}")
        elif header.kind == Kind.HELLO:
            times = unpack_json(payload, Times, "HELLO")
            self._dispatch.welcome(name, times, self.segment_of(name))
            self._welcome(name)
        elif header.kind == Kind.READY:
            self._swaps.on_reply(name, unpack_json(payload, SwapReply, "READY"))
        elif header.kind == Kind.HEARTBEAT:
            self._count(name, payload)
        else:
            raise ProtocolError(f"{name!r}: expected no {Kind(header.kind).name}")

    def _join(self, name: str, payload: Sequence[memoryview]) -> None:
        """Tell a worker what to run, or why it cannot join."""
        unpack_json(payload, JoinRequest, "JOIN")
        if name not in self._blocks and len(self._blocks) >= _MOST:
            self.refuse(name, f"expected at most {_MOST} workers of other hosts, got one more")
        plan = self._plan
        epochs = self._swaps.epochs
        segment = self._segment_in_need()
        terms = JoinReply(
            epochs.config, tuple(plan.source.schema), plan.bor, epochs.models, epochs.epoch,
            epochs.last, segment, plan.graph.config.workers.results, tai_ahead_ns(),
            time.clock_gettime_ns(time.CLOCK_TAI), max(self._silence_s, _LEAST_SILENCE_S),
        )  # fmt: skip
        self._hub.add_remote(name.encode())
        self._ready.discard(name)
        self._began[name] = terms
        self._joined_s[name] = time.monotonic()
        graph = self._graphs[segment]
        self._blocks[name] = MeterBlock(*graph.meter_names(), shadows=graph.shadow_names())
        self._hub.send(Header(Kind.SPEC, plan.account.run), pack_json(terms), to=name.encode())

    def _segment_in_need(self) -> int:
        """Return the segment with the fewest workers; of these the one with the fewest here."""
        own = Counter(self._plan.graph.config.workers.segment_of_worker)
        crew = own + Counter(terms.segment for terms in self._began.values())
        return min(range(len(self._graphs)), key=lambda segment: (crew[segment], own[segment]))

    def refuse(self, name: str, why: str) -> None:
        """Tell somebody why it cannot join, and raise ProtocolError."""
        self._hub.reject(Header(Kind.ERROR), pack_json({"message": why}), to=name.encode())
        raise ProtocolError(f"JOIN: {name!r}: {why}")

    def _welcome(self, name: str) -> None:
        """Note that a worker is ready; its meters count from now on."""
        if name not in self._ready:
            self._ready.add(name)
            self._plan.account.add_remote_worker(self._blocks[name])
            self._swaps.welcome(name, self._began[name].epoch)
            seconds = round(time.monotonic() - self._joined_s[name], 3)
            text = "remote worker {worker!r} is ready after {seconds} s"
            limiter.info(_LOG, "remote-worker-ready", text, worker=name, seconds=seconds)

    def _count(self, name: str, payload: Sequence[memoryview]) -> None:
        """Take over the meters that a heartbeat carries."""
        if not payload:  # it makes ready
            return
        rows = self._blocks[name].rows
        if len(payload) != 1 or payload[0].nbytes != rows.nbytes:
            raise ProtocolError(f"HEARTBEAT: {name!r}: expected {rows.nbytes} bytes of meters")
        rows[:] = np.frombuffer(payload[0], rows.dtype).reshape(rows.shape)

    def beat(self, now_s: float) -> None:
        """Tell them once a second that ingest is there."""
        if self._blocks and now_s - self._beat_s >= HEARTBEAT_S:
            self._beat_s = now_s
            for name in self._blocks:
                self._hub.send(Header(Kind.HEARTBEAT), to=name.encode())

    def drop(self, name: str) -> None:
        """Forget a worker; what it has counted stays."""
        del self._blocks[name], self._began[name], self._joined_s[name]
        self._ready.discard(name)
        self._hub.remove_remote(name.encode())

    def end(self) -> None:
        """Tell all of them that the run is over."""
        for name in self._blocks:
            self._hub.send(Header(Kind.STOP), to=name.encode())
