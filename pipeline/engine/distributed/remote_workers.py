"""Remote workers as ingest sees them: join requests, state and meters."""

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
from sluice.pipeline.engine.workers.join import JoinReply, JoinRequest, tai_offset_ns
from sluice.pipeline.engine.workers.process_spec import ServiceTimes
from sluice.pipeline.engine.workers.router import Router
from sluice.pipeline.graph.segments import split
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.transport.protocol import MAX_TEXT_BYTES, Header, Kind, pack_json, unpack_json

from .dispatcher import Dispatcher
from .swap_coordinator import SwapCoordinator

_LOG = logging.getLogger("sluice.engine")
#: Largest number of remote workers of one run; each has a meter block in memory.
_MAX_WORKERS = 1024
#: Shortest timeout sent to a remote worker, s: five heartbeats.
_MIN_TIMEOUT_S = 5.0


class RemoteWorkers:
    """The workers of other hosts that have joined a run.

    Parameters
    ----------
    context
        The run.
    router
        Sends to them.
    swaps, dispatcher
        Notified of workers that are ready, with their service times.
    timeout_s
        Time without a message after which either side counts as lost, s.
    """

    def __init__(
        self,
        context: RunContext,
        router: Router,
        swaps: SwapCoordinator,
        dispatcher: Dispatcher,
        timeout_s: float,
    ) -> None:
        self._context = context
        self._swaps = swaps
        self._dispatcher = dispatcher
        self._router = router
        self._timeout_s = timeout_s
        self._blocks: dict[str, MeterBlock] = {}
        self._ready: set[str] = set()
        self._replies: dict[str, JoinReply] = {}
        self._joined_s: dict[str, float] = {}
        self._graphs = split(context.graph)
        self._heartbeat_s = 0.0

    def __contains__(self, name: str) -> bool:
        return name in self._blocks

    @property
    def ready(self) -> list[str]:
        """Names of the remote workers that are ready."""
        return sorted(self._ready)

    @property
    def segments(self) -> list[int]:
        """Segments of the remote workers that are ready."""
        return [self._replies[name].segment for name in self._ready]

    def not_ready_since(self, since_s: float) -> list[str]:
        """Return the names of workers that joined before `since_s` and are not ready."""
        return [n for n, at_s in self._joined_s.items() if at_s < since_s and n not in self._ready]

    def segment_of(self, name: str) -> int:
        """Return the segment that a worker runs."""
        return self._replies[name].segment

    def on_message(self, name: str, header: Header, payload: Sequence[memoryview]) -> None:
        """Handle a message of a remote worker; reject a worker that has not joined.

        Raises
        ------
        ProtocolError
            If the message is not one that this worker may send now.
        """
        if header.kind == Kind.JOIN:
            self._on_join(name, payload)
        elif name not in self:
            self._router.reject(Header(Kind.STOP), to=name.encode())
            raise ProtocolError(f"{name!r}: expected JOIN first, got {Kind(header.kind).name}")
        elif header.kind == Kind.HELLO:
            times = unpack_json(payload, ServiceTimes, "HELLO")
            self._dispatcher.on_worker_ready(name, times, self.segment_of(name))
            self._on_ready(name)
        elif header.kind == Kind.READY:
            self._swaps.on_reply(name, unpack_json(payload, SwapReply, "READY"))
        elif header.kind == Kind.HEARTBEAT:
            self._update_meters(name, payload)
        else:
            raise ProtocolError(f"{name!r}: expected no {Kind(header.kind).name}")

    def _on_join(self, name: str, payload: Sequence[memoryview]) -> None:
        """Answer a join request with a join reply, or with the reason for a rejection."""
        unpack_json(payload, JoinRequest, "JOIN")
        if name not in self._blocks and len(self._blocks) >= _MAX_WORKERS:
            self.reject(
                name,
                f"expected at max_restarts {_MAX_WORKERS} workers of other hosts, got one more",
            )
        context = self._context
        epochs = self._swaps.epochs
        segment = self._segment_in_need()
        reply = JoinReply(
            config=epochs.config, source=tuple(context.source.schema), bor=context.bor,
            models=epochs.models, epoch=epochs.epoch, swap=epochs.latest, segment=segment,
            results=context.graph.config.workers.results, tai_offset_ns=tai_offset_ns(),
            sent_ns=time.clock_gettime_ns(time.CLOCK_TAI),
            timeout_s=max(self._timeout_s, _MIN_TIMEOUT_S),
        )  # fmt: skip
        answer = pack_json(reply)
        if len(answer) > MAX_TEXT_BYTES:
            self.reject(
                name, f"expected a graph of at most {MAX_TEXT_BYTES} bytes, got {len(answer)}"
            )
        self._router.add_remote(name.encode())
        self._ready.discard(name)
        self._replies[name] = reply
        self._joined_s[name] = time.monotonic()
        graph = self._graphs[segment]
        self._blocks[name] = MeterBlock(*graph.meter_names(), shadows=graph.shadow_names())
        self._router.send(Header(Kind.SPEC, context.accounting.run), answer, to=name.encode())

    def _segment_in_need(self) -> int:
        """Return the segment with the fewest workers; if equal, with the fewest local ones."""
        own = Counter(self._context.graph.config.workers.segment_of_worker)
        workers = own + Counter(reply.segment for reply in self._replies.values())
        return min(range(len(self._graphs)), key=lambda segment: (workers[segment], own[segment]))

    def reject(self, name: str, why: str) -> None:
        """Send a worker the reason why it cannot join, and raise ProtocolError."""
        self._router.reject(Header(Kind.ERROR), pack_json({"message": why}), to=name.encode())
        raise ProtocolError(f"JOIN: {name!r}: {why}")

    def _on_ready(self, name: str) -> None:
        """Record that a worker is ready; its meters count from now on."""
        if name not in self._ready:
            self._ready.add(name)
            self._context.accounting.add_remote_worker(self._blocks[name])
            self._swaps.on_worker_ready(name, self._replies[name].epoch)
            seconds = round(time.monotonic() - self._joined_s[name], 3)
            text = "remote worker {worker!r} is ready after {seconds} s"
            limiter.info(_LOG, "remote-worker-ready", text, worker=name, seconds=seconds)

    def _update_meters(self, name: str, payload: Sequence[memoryview]) -> None:
        """Copy the meters of a heartbeat into the worker's block."""
        if not payload:  # the worker is not ready yet
            return
        rows = self._blocks[name].rows
        if len(payload) != 1 or payload[0].nbytes != rows.nbytes:
            raise ProtocolError(f"HEARTBEAT: {name!r}: expected {rows.nbytes} bytes of meters")
        rows[:] = np.frombuffer(payload[0], rows.dtype).reshape(rows.shape)

    def send_heartbeats(self, now_s: float) -> None:
        """Send a heartbeat to every remote worker if `HEARTBEAT_S` has passed since the last."""
        if self._blocks and now_s - self._heartbeat_s >= HEARTBEAT_S:
            self._heartbeat_s = now_s
            for name in self._blocks:
                self._router.send(Header(Kind.HEARTBEAT), to=name.encode())

    def remove(self, name: str) -> None:
        """Remove a worker; its meters stay in the accounting."""
        del self._blocks[name], self._replies[name], self._joined_s[name]
        self._ready.discard(name)
        self._router.remove_remote(name.encode())

    def end(self) -> None:
        """Send STOP to every remote worker."""
        for name in self._blocks:
            self._router.send(Header(Kind.STOP), to=name.encode())
