"""The distributed engine: ingest here, stages in compute workers, the sink in a process of its own.

Ingest owns a batch until the sink has committed it. A worker that dies has its batches given to
another; the sink drops what it has already. At most ``window`` batches are in flight.
"""

from __future__ import annotations

import gc
import logging
import time
from typing import Any

import msgspec

from sluice.pipeline.config.durations import parse_duration
from sluice.pipeline.core.errors import ErrorRecord, ProtocolError, RunError, SluiceError
from sluice.pipeline.core.log import limiter
from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.engine.batch_reader import Pause
from sluice.pipeline.engine.model_swap import Swap, SwapReply
from sluice.pipeline.engine.workers.process_spec import Times
from sluice.pipeline.engine.workers.router import open_router
from sluice.pipeline.run.ledger import RunTime
from sluice.pipeline.transport.batch_summary import unpack_summaries
from sluice.pipeline.transport.poller import Poller
from sluice.pipeline.transport.protocol import Header, Kind, unpack_json
from sluice.pipeline.transport.run_messages import CommitAck, Credit, Result
from sluice.pipeline.transport.socket import Message

from .dispatcher import Dispatcher
from .liveness import StallWatchdog
from .sink_channel import SinkChannel
from .supervisor import READY_S, SINK
from .swap_coordinator import SwapCoordinator
from .worker_pool import WorkerPool

_LOG = logging.getLogger("sluice.engine")
_TICK_S = 0.05
#: How often somebody looks after processes, swaps and the ladder; a look costs as much as a batch.
_TEND_S = 0.005
_FINISH_S = 30.0
#: How long workers of other hosts may take to hand in their last meters.
_LAST_WORD_S = 2.0


class DistributedEngine:
    """See `Engine`."""

    def __init__(self, plan: RunContext) -> None:
        workers = plan.graph.config.workers
        self._plan = plan
        self._account = plan.account
        self._stall = StallWatchdog(parse_duration(workers.stall_timeout, "workers.stall_timeout"))
        self._swaps = SwapCoordinator(plan, self._send_swap)
        self._sink = SinkChannel(plan.account.run, plan.control)
        self._failure: SluiceError | None = None
        #: What a word of a process of this host leads to; it gets name, header and payload.
        self._handlers = {
            Kind.ACK: self._commit, Kind.CREDIT: self._credit, Kind.HELLO: self._welcome,
            Kind.READY: self._ready, Kind.ERROR: self._fail, Kind.EOR: self._hear_sink,
            Kind.DISK_FULL: self._hear_sink, Kind.HEARTBEAT: lambda *_: None,
            Kind.RESULT: self._pass_on,
        }  # fmt: skip

    def start(self) -> None:
        """Start sink and workers; wait until each has said that it is ready."""
        self._hub = open_router(self._plan)
        self._poller = Poller(self._hub.sockets)
        try:
            self._dispatch = Dispatcher(self._plan, self._hub, self._swaps.epochs)
        except BaseException:
            self._hub.close()
            raise
        self._crew = WorkerPool(self._plan, self._hub, self._dispatch, self._swaps)
        try:
            self._crew.own.start(self._hub.endpoint)
            self._await_ready()
        except BaseException:
            self._end_processes()
            raise
        self._crew.own.release_worker_cores()
        gc.freeze()  # what was loaded stays: the collector need not walk it again
        source = self._plan.source
        if source.socket is not None:
            self._poller = Poller([*self._hub.sockets, source.socket])

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while late := self._crew.own.not_ready:
            if time.monotonic() > deadline:
                raise RunError(f"not ready after {READY_S:g} s: {', '.join(late)}")
            if self._plan.control.stopping:
                raise RunError("stopped before the run had started")
            self._poll(_TICK_S)
            self._crew.guests.beat(time.monotonic())  # who is ready sooner shall not leave
            for process in self._crew.own.exited:
                self._poll(_TICK_S)  # its last words may tell more than its exit code
                raise self._failure or RunError(process.death)

    def run(self) -> None:
        """Feed workers until the source is done and the sink has everything."""
        try:
            self._loop()
        except SluiceError as error:
            self._failure = self._failure or error
        finally:
            self._account.enter_state(self._time(), time.monotonic_ns())
            self._swaps.epochs.close()
            failure = self._failure
            self._dispatch.fail_all(failure.message if failure else "the engine broke off")
        if self._failure is not None:
            raise self._failure

    def _loop(self) -> None:
        source, control = self._plan.source, self._plan.control
        flights, pause, stopped = self._dispatch.flights, Pause(self._plan), False
        self._stall.progress()
        tend_at_s = 0.0
        while self._failure is None:
            now_s = time.monotonic()
            if now_s >= tend_at_s:
                tend_at_s = now_s + _TEND_S
                self._supervise_periodically()
            self._hand_out(paused=pause.holds())
            self._account.record_losses(source.losses(), "source")
            self._account.enter_state(self._time(), time.monotonic_ns())
            if source.exhausted:
                if not flights:
                    break
                self._sink.request_flush(self._hub, self._crew.sink)
            if control.aborting:
                raise RunError(f"stopped a second time with {len(flights)} batches in flight")
            if control.stopping and not stopped:
                source.stop()
                stopped = True
            self._poll(self._poll_timeout())
            self._check_stall()

    def finish(self) -> dict[str, Any]:
        """Give the sink the end-of-run record, end every process."""
        if self._failure is None:
            try:
                self._end_run()
            except SluiceError as error:
                self._failure = self._failure or error
        self._end_processes()
        gc.unfreeze()  # so that nothing of this run stays
        if self._failure is not None and self._sink.report is None:
            raise self._failure
        return self._sink.report or {}

    def _end_run(self) -> None:
        """Exchange end-of-run records with the sink, also with one that dies over it."""
        eor = msgspec.json.encode(self._plan.eor())
        patience_s = _FINISH_S + self._crew.hang_s  # one that hangs is killed first
        deadline = time.monotonic() + patience_s
        while self._sink.report is None and self._failure is None:
            sink = self._crew.sink
            if self._sink.end(self._hub, sink, eor) or self._sink.waits_for_room:
                deadline = time.monotonic() + patience_s
            self._poll(_TICK_S)
            if self._sink.report is not None:
                return
            if sink.exit_code is not None:
                self._poll(_TICK_S)  # its last words may tell more than its exit code
            if self._sink.report is None:
                self._supervise()
            if self._plan.control.aborting and self._sink.waits_for_room:
                raise RunError("stopped a second time while the sink has no room")
            if sink.ready and time.monotonic() > deadline:
                raise RunError("sink: no answer at the end of the run")

    def _supervise_periodically(self) -> None:
        """Look after what changes seldom: processes, swaps of models, the ladder."""
        self._supervise()
        oldest, next_seq = self._dispatch.oldest_epoch, self._dispatch.intake.next_seq
        self._swaps.advance(self._crew.everyone, oldest, next_seq)
        self._dispatch.intake.rungs.tick()

    def _supervise(self) -> None:
        """Tend the crew; what the dead have said before counts."""
        if self._crew.own.exited:
            self._poll(0)
        if self._failure is None:
            self._crew.supervise()

    def _end_processes(self) -> None:
        guests = self._crew.guests
        guests.end()
        deadline = time.monotonic() + _LAST_WORD_S
        while guests.ready and time.monotonic() < deadline:
            self._poll(_TICK_S)
        self._crew.end(failed=self._failure is not None)
        self._account.record_refused_connections(self._hub.refused)
        self._hub.close()

    def _hand_out(self, *, paused: bool) -> None:
        flights = self._dispatch.flights
        if self._sink.needs_resend and flights.quiet:
            self._sink.needs_resend = False
            flights.requeue_all()
        if not self._sink.needs_resend and self._crew.working:
            self._dispatch.assign(paused=paused)

    def _send_swap(self, worker: str, swap: Swap) -> None:
        control = Header(Kind.CONTROL, self._account.run)
        self._hub.send(control, msgspec.json.encode(swap), to=worker.encode())

    def _poll(self, timeout_s: float) -> None:
        """Wait for messages, at most `timeout_s`, and take all that are there."""
        ready = self._poller.poll(timeout_s)
        source = self._plan.source
        if source.socket is not None and source.socket in ready:
            source.receive()
        while any(socket in ready for socket in self._hub.sockets):
            try:
                message = self._hub.receive()
                if message is None:
                    return
                self._dispatch_message(*message)
            except ProtocolError as error:
                self._account.record_protocol_error()
                limiter.warn(_LOG, "protocol-error", "{count:,} protocol errors of workers, "
                             "the latest: {reason}", reason=error.message)  # fmt: skip

    def _dispatch_message(self, message: Message, far: bool) -> None:
        peer, header, payload = message
        name = peer.decode(errors="replace")
        kind = Kind(header.kind)
        answer = self._handlers.get(kind)
        if far:
            self._crew.on_remote_message(name, header, payload)
        elif name in self._crew.own and answer is not None:
            answer(name, header, payload)
        else:
            self._account.record_protocol_error()
            limiter.warn(_LOG, "protocol-error", "{count:,} protocol errors of workers, the "
                         "latest: unexpected {kind} of {peer!r}",
                         kind=kind.name, peer=name)  # fmt: skip
        self._crew.heard(name)

    def _credit(self, name: str, header: Header, _: list[memoryview]) -> None:
        self._dispatch.credit(name, Credit.from_header(header))

    def _pass_on(self, name: str, header: Header, payload: list[memoryview]) -> None:
        self._dispatch.on_segment_result(name, Result.from_header(header), payload)

    def _commit(self, _: str, header: Header, payload: list[memoryview]) -> None:
        ack = CommitAck.from_header(header)
        if self._dispatch.commit(ack.first_seq, unpack_summaries(payload[0])):
            self._stall.progress()

    def _welcome(self, name: str, _: Header, payload: list[memoryview]) -> None:
        self._crew.welcome(name)
        if name == SINK:
            self._sink.welcome()
        else:
            times, segment = unpack_json(payload, Times, "HELLO"), self._crew.own[name].spec.segment
            self._dispatch.welcome(name, times, segment)

    def _ready(self, name: str, _: Header, payload: list[memoryview]) -> None:
        self._swaps.on_reply(name, msgspec.json.decode(payload[0], type=SwapReply))

    def _fail(self, _: str, __: Header, payload: list[memoryview]) -> None:
        last_words = msgspec.json.decode(payload[0], type=ErrorRecord)
        self._failure = self._failure or last_words.error()

    def _hear_sink(self, _: str, header: Header, payload: list[memoryview]) -> None:
        self._sink.hear(header, payload)

    def _time(self) -> RunTime:
        if self._plan.control.paused:
            return RunTime.PAUSED
        if not self._crew.working:
            return RunTime.DOWN
        return RunTime.BUSY if self._dispatch.flights.blocked else RunTime.LIVE

    def _poll_timeout(self) -> float:
        """Return how long to wait for a message: until the source may have a batch."""
        due_s = None if self._plan.control.paused else self._dispatch.due_in()
        return _TICK_S if due_s is None else min(_TICK_S, due_s)

    def _check_stall(self) -> None:
        flights = self._dispatch.flights
        if not flights or not self._crew.working or self._sink.waits_for_room:
            self._stall.progress()
        self._stall.check(flights.workers)
