"""The distributed engine: ingest in this process, stages in workers, the sink in its own process.

Ingest keeps a batch until the sink has committed it. The batches of a worker that exits are sent to
another one; the sink drops results that it has already. At most ``window`` full batches are in
flight.
"""

from __future__ import annotations

import gc
import time

import msgspec

from sluice.pipeline.config.durations import parse_duration
from sluice.pipeline.core.errors import ProtocolError, RunError, SluiceError
from sluice.pipeline.engine.base import RunContext, SinkReport
from sluice.pipeline.engine.model_swap import Swap
from sluice.pipeline.engine.workers.batch_token import TokenKey, new_secret
from sluice.pipeline.engine.workers.router import open_router
from sluice.pipeline.transport.poller import Poller
from sluice.pipeline.transport.protocol import Header, Kind

from .dispatcher import Dispatcher
from .liveness import StallWatchdog
from .message_handler import MessageHandler
from .sessions import Sessions
from .sink_channel import SinkChannel
from .state_clock import StateClock
from .supervisor import READY_TIMEOUT_S
from .swap_coordinator import SwapCoordinator
from .worker_pool import WorkerPool

#: Longest wait for messages, s.
_MAX_POLL_S = 0.05
#: Interval at which processes, swaps and the ladder are checked, s. One check takes as long as one
#: batch.
_SUPERVISE_PERIOD_S = 0.005
#: Time within which the sink must answer at the end of the run, s.
_FINISH_TIMEOUT_S = 30.0
#: Time for remote workers to send their last meters, s.
_LAST_HEARTBEAT_S = 2.0


class DistributedEngine:
    """Runs the graph over local and remote processes; implements `Engine`."""

    def __init__(self, context: RunContext) -> None:
        workers = context.graph.config.workers
        self._context = context
        self._accounting = context.accounting
        stall_timeout_s = parse_duration(workers.stall_timeout, "workers.stall_timeout")
        self._watchdog = StallWatchdog(stall_timeout_s)
        self._swaps = SwapCoordinator(context, self._send_swap)
        self._failure: SluiceError | None = None

    def start(self) -> None:
        """Start sink and workers; wait until all are ready."""
        self._router = open_router(self._context)
        self._poller = Poller(self._router.sockets)
        self._sessions, secret = Sessions(self._accounting.run, self._router), new_secret()
        try:
            self._dispatcher = Dispatcher(
                self._context, self._sessions, TokenKey(secret), self._swaps.epochs
            )
        except BaseException:
            self._router.close()
            raise
        self._pool = WorkerPool(
            self._context, self._sessions, secret, self._dispatcher, self._swaps
        )
        self._sink = SinkChannel(self._sessions, self._accounting, self._context.control)
        self._messages = MessageHandler(
            self._context.accounting, self._sessions, self._pool, self._dispatcher, self._sink,
            self._swaps, self._watchdog,
        )  # fmt: skip
        try:
            self._pool.local.start(self._router.endpoint)
            self._await_ready()
        except BaseException:
            self._end_processes()
            raise
        self._pool.local.release_worker_cores()
        gc.freeze()  # the garbage collector need not visit objects that live as long as the run
        source = self._context.source
        if source.socket is not None:
            self._poller = Poller([*self._router.sockets, source.socket])

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while late := self._pool.local.not_ready:
            if time.monotonic() > deadline:
                raise RunError(f"not ready after {READY_TIMEOUT_S:g} s: {', '.join(late)}")
            if self._context.control.stopping:
                raise RunError("stopped before the run had started")
            self._poll(_MAX_POLL_S)
            # Keeps the workers that are ready first from timing out.
            self._pool.remote.send_heartbeats(time.monotonic())
            for process in self._pool.local.exited:
                # Its ERROR message may have more information than its exit code.
                self._poll(_MAX_POLL_S)
                raise self._failure or RunError(process.exit_description)

    def run(self) -> None:
        """Feed workers until the source is exhausted and the sink has committed everything."""
        self._clock = StateClock(self._context, self._pool, self._dispatcher, self._watchdog)
        try:
            self._loop()
        except BaseException as error:
            self._failure = self._failure or RunError.of(error)
        finally:
            self._clock.record()
            self._swaps.epochs.close()
            failure = self._failure
            self._dispatcher.fail_all(failure.message if failure else "the engine broke off")
        if self._failure is not None:
            raise self._failure

    def _loop(self) -> None:
        source, control = self._context.source, self._context.control
        in_flight, reader, stopped = self._dispatcher.in_flight, self._dispatcher.reader, False
        self._watchdog.progress()
        supervise_at_s = 0.0
        while self._failure is None:
            now_s = time.monotonic()
            if now_s >= supervise_at_s:
                supervise_at_s = now_s + _SUPERVISE_PERIOD_S
                self._supervise_periodically()
            self._assign_batches(paused=reader.is_paused())
            self._accounting.record_losses(source.losses(), "source")
            self._clock.record()
            if source.exhausted:
                if not in_flight:
                    break
                self._sink.request_flush(self._pool.sink)
            if control.aborting:
                raise RunError(f"stopped a second time with {len(in_flight)} batches in flight")
            if control.stopping and not stopped:
                self._context.stop_source()
                stopped = True
            self._poll(self._poll_timeout())
            self._check_stall()

    def finish(self) -> SinkReport:
        """Send the end-of-run record to the sink, end every process."""
        if self._failure is None:
            try:
                self._end_run()
            except BaseException as error:
                self._failure = self._failure or RunError.of(error)
        self._end_processes()
        gc.unfreeze()  # the objects of this run can be collected now
        if self._failure is not None and self._sink.report is None:
            raise self._failure
        return self._sink.report or SinkReport()

    def _end_run(self) -> None:
        """Exchange end-of-run records with the sink; repeat it if the sink is restarted."""
        eor = msgspec.json.encode(self._context.eor())
        # Long enough to kill and restart a sink that hangs.
        timeout_s = _FINISH_TIMEOUT_S + self._pool.hang_timeout_s
        deadline = time.monotonic() + timeout_s
        while self._sink.report is None and self._failure is None:
            sink = self._pool.sink
            if self._sink.send_eor(sink, eor) or self._sink.disk_full:
                deadline = time.monotonic() + timeout_s
            self._poll(_MAX_POLL_S)
            if self._sink.report is not None:
                return
            if sink.exit_code is not None:
                self._poll(
                    _MAX_POLL_S
                )  # its ERROR message may have more information than its exit code
            if self._sink.report is None:
                self._supervise()
            if self._context.control.aborting and self._sink.disk_full:
                raise RunError("stopped a second time while the sink waits for disk space")
            if sink.ready and time.monotonic() > deadline:
                raise RunError("sink: no answer at the end of the run")

    def _supervise_periodically(self) -> None:
        """Check processes, model swaps and the ladder, which change seldom."""
        self._supervise()
        oldest, next_seq = self._dispatcher.oldest_epoch, self._dispatcher.reader.next_seq
        self._swaps.advance(self._pool.all_ready, oldest, next_seq)
        self._dispatcher.reader.ladder.tick()

    def _supervise(self) -> None:
        """Supervise the processes; first handle the last messages of those that have exited."""
        if self._pool.local.exited:
            self._poll(0)
        if self._failure is None:
            self._pool.supervise()

    def _end_processes(self) -> None:
        remote = self._pool.remote
        remote.end()
        deadline = time.monotonic() + _LAST_HEARTBEAT_S
        while remote.ready and time.monotonic() < deadline:
            self._poll(_MAX_POLL_S)
        self._pool.end(failed=self._failure is not None)
        self._accounting.record_refused_connections(self._router.refused)
        self._router.close()

    def _assign_batches(self, *, paused: bool) -> None:
        in_flight = self._dispatcher.in_flight
        if self._sink.needs_resend and in_flight.idle:
            self._sink.needs_resend = False
            in_flight.requeue_all()
        if self._may_assign:
            self._dispatcher.assign(paused=paused)

    @property
    def _may_assign(self) -> bool:
        """Whether batches may be sent: there are workers, and a sink that has lost none of them."""
        return not self._sink.needs_resend and self._pool.working

    def _send_swap(self, worker: str, swap: Swap) -> None:
        self._sessions.send(worker, Header(Kind.CONTROL), msgspec.json.encode(swap))

    def _poll(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for messages, then handle those of one turn."""
        ready = self._poller.poll(timeout_s)
        source = self._context.source
        if source.socket is not None and source.socket in ready:
            source.receive()
        self._router.start_turn()
        while any(socket in ready for socket in self._router.sockets):
            try:
                message = self._router.receive()
                if message is None:
                    return
                self._messages.handle(*message)
            except ProtocolError as error:
                self._messages.record_error(error)
            self._failure = self._failure or self._messages.failure

    def _poll_timeout(self) -> float:
        """Return the time until the source may have a batch, s, up to `_MAX_POLL_S`."""
        if self._context.control.paused or not self._may_assign:
            return _MAX_POLL_S
        due_s = self._dispatcher.due_in()
        return _MAX_POLL_S if due_s is None else min(_MAX_POLL_S, due_s)

    def _check_stall(self) -> None:
        in_flight = self._dispatcher.in_flight
        if not in_flight or not self._pool.working or self._sink.disk_full:
            self._watchdog.progress()
        if self._watchdog.assumes_loss():
            self._pool.disconnect_busy()
        self._watchdog.check(in_flight.workers)
