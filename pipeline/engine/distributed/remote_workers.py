"""Remote workers as ingest sees them: join requests, state and meters."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.core.log import limiter
from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.engine.model_swap import SwapReply
from sluice.pipeline.engine.workers.heartbeat import HEARTBEAT_S
from sluice.pipeline.engine.workers.join import JoinReply, JoinRequest, tai_offset_ns
from sluice.pipeline.engine.workers.process_spec import ServiceTimes
from sluice.pipeline.graph.segments import split
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.transport.protocol import MAX_TEXT_BYTES, Header, Kind, pack_json, unpack_json

from .dispatcher import Dispatcher
from .sessions import Sessions
from .swap_coordinator import SwapCoordinator

_LOG = logging.getLogger("sluice.engine")
#: Largest number of remote workers of one run; each has a meter block in memory.
MAX_WORKERS = 1024
#: Shortest timeout sent to a remote worker, s: five heartbeats.
_MIN_TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _JoinedWorker:
    """A worker that has joined: meters, segment, epoch of its models, start and time of joining."""

    block: MeterBlock
    segment: int
    epoch: int
    started_ns: int
    joined_s: float


class RemoteWorkers:
    """The workers of other hosts that have joined a run.

    Parameters
    ----------
    context
        The run.
    sessions
        Sends to them; opened for each worker that joins.
    swaps, dispatcher
        Notified of workers that are ready, with their service times.
    timeout_s
        Time without a message after which either side counts as lost, s.
    """

    def __init__(
        self,
        context: RunContext,
        sessions: Sessions,
        swaps: SwapCoordinator,
        dispatcher: Dispatcher,
        timeout_s: float,
    ) -> None:
        self._context = context
        self._swaps = swaps
        self._dispatcher = dispatcher
        self._sessions = sessions
        self._timeout_s = timeout_s
        self._joined: dict[str, _JoinedWorker] = {}
        self._ready: set[str] = set()
        self._graphs = split(context.graph)
        self._heartbeat_s = 0.0

    def __contains__(self, name: str) -> bool:
        return name in self._joined

    @property
    def names(self) -> list[str]:
        """Names of the remote workers."""
        return sorted(self._joined)

    @property
    def ready(self) -> list[str]:
        """Names of the remote workers that are ready."""
        return sorted(self._ready)

    @property
    def segments(self) -> list[int]:
        """Segments of the remote workers that are ready."""
        return [self._joined[name].segment for name in self._ready]

    def not_ready_since(self, since_s: float) -> list[str]:
        """Return the names of workers that joined before `since_s` and are not ready."""
        return [
            name for name, worker in self._joined.items()
            if worker.joined_s < since_s and name not in self._ready
        ]  # fmt: skip

    def segment_of(self, name: str) -> int:
        """Return the segment that a worker runs."""
        return self._joined[name].segment

    def started_ns(self, name: str) -> int:
        """Return the time when a worker started, ns of CLOCK_TAI."""
        return self._joined[name].started_ns

    def on_message(self, name: str, header: Header, payload: Sequence[memoryview]) -> None:
        """Handle a message of a remote worker that has joined.

        Raises
        ------
        ProtocolError
            If the message is not one that this worker may send now.
        """
        if header.kind == Kind.HELLO:
            times = unpack_json(payload, ServiceTimes, "HELLO")
            self._dispatcher.on_worker_ready(name, times, self.segment_of(name))
            self._on_ready(name)
        elif header.kind == Kind.READY:
            self._swaps.on_reply(name, unpack_json(payload, SwapReply, "READY"))
        elif header.kind == Kind.HEARTBEAT:
            self._update_meters(name, payload)
        else:
            raise ProtocolError(f"{name!r}: expected no {Kind(header.kind).name}")

    def join(self, request: JoinRequest, identity: bytes, header: Header) -> None:
        """Answer the JOIN of a worker with SPEC, and open its session.

        Parameters
        ----------
        request
            The join request.
        identity
            Identity of the worker's socket.
        header
            Header of JOIN; the answer is of the same session.
        """
        context, epochs, name = self._context, self._swaps.epochs, request.name
        segment = self._segment_in_need()
        session = self._sessions.open(name, identity)
        reply = JoinReply(
            session=session.number, config=epochs.config, source=tuple(context.source.schema),
            bor=context.bor, models=epochs.models, epoch=epochs.epoch, swap=epochs.latest,
            segment=segment, results=context.graph.config.workers.results,
            tai_offset_ns=tai_offset_ns(), sent_ns=time.clock_gettime_ns(time.CLOCK_TAI),
            timeout_s=max(self._timeout_s, _MIN_TIMEOUT_S),
        )  # fmt: skip
        answer = pack_json(reply)
        if len(answer) > MAX_TEXT_BYTES:
            self._sessions.close(name)
            why = f"expected a graph of at most {MAX_TEXT_BYTES} bytes, got {len(answer)}"
            self._sessions.refuse(identity, header, why)
            raise ProtocolError(f"JOIN of {name!r}: {why}")
        graph = self._graphs[segment]
        block = MeterBlock(*graph.meter_names(), shadows=graph.shadow_names())
        self._joined[name] = _JoinedWorker(
            block=block, segment=segment, epoch=epochs.epoch, started_ns=request.started_ns,
            joined_s=time.monotonic(),
        )  # fmt: skip
        self._sessions.answer(identity, header, Header(Kind.SPEC), answer)

    @property
    def full(self) -> bool:
        """Whether no more workers may join."""
        return len(self._joined) >= MAX_WORKERS

    def _segment_in_need(self) -> int:
        """Return the segment with the fewest workers; if equal, with the fewest local ones."""
        own = Counter(self._context.graph.config.workers.segment_of_worker)
        workers = own + Counter(worker.segment for worker in self._joined.values())
        return min(range(len(self._graphs)), key=lambda segment: (workers[segment], own[segment]))

    def _on_ready(self, name: str) -> None:
        """Record that a worker is ready; its meters count from now on."""
        if name not in self._ready:
            self._ready.add(name)
            worker = self._joined[name]
            self._context.accounting.add_remote_worker(worker.block)
            self._swaps.on_worker_ready(name, worker.epoch)
            seconds = round(time.monotonic() - worker.joined_s, 3)
            text = "remote worker {worker!r} is ready after {seconds} s"
            limiter.info(_LOG, "remote-worker-ready", text, worker=name, seconds=seconds)

    def _update_meters(self, name: str, payload: Sequence[memoryview]) -> None:
        """Copy the meters of a heartbeat into the worker's block."""
        if not payload:  # the worker is not ready yet
            return
        rows = self._joined[name].block.rows
        if len(payload) != 1 or payload[0].nbytes != rows.nbytes:
            raise ProtocolError(f"HEARTBEAT: {name!r}: expected {rows.nbytes} bytes of meters")
        rows[:] = np.frombuffer(payload[0], rows.dtype).reshape(rows.shape)

    def send_heartbeats(self, now_s: float) -> None:
        """Send a heartbeat to every remote worker if `HEARTBEAT_S` has passed since the last."""
        if self._joined and now_s - self._heartbeat_s >= HEARTBEAT_S:
            self._heartbeat_s = now_s
            for name in self._joined:
                self._sessions.send(name, Header(Kind.HEARTBEAT))

    def remove(self, name: str) -> None:
        """Remove a worker and end its session; its meters stay in the accounting."""
        del self._joined[name]
        self._ready.discard(name)
        self._sessions.close(name)

    def end(self) -> None:
        """Send STOP to every remote worker."""
        for name in self._joined:
            self._sessions.send(name, Header(Kind.STOP))
