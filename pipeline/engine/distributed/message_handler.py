"""Messages that ingest receives from the processes of a run, and what each does."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from sluice.pipeline.core.errors import ErrorRecord, ProtocolError, SluiceError
from sluice.pipeline.core.log import limiter
from sluice.pipeline.engine.model_swap import SwapReply
from sluice.pipeline.engine.workers.process_spec import ServiceTimes
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.transport.batch_summary import unpack_summaries
from sluice.pipeline.transport.protocol import Header, Kind, unpack_json
from sluice.pipeline.transport.run_messages import CommitAck, Credit, Result
from sluice.pipeline.transport.socket import Message

from .dispatcher import Dispatcher
from .liveness import StallWatchdog
from .sessions import SessionError, Sessions
from .sink_channel import SinkChannel
from .supervisor import SINK
from .swap_coordinator import SwapCoordinator
from .worker_pool import WorkerPool

_LOG = logging.getLogger("sluice.engine")
_PROTOCOL_ERRORS = "{count:,} protocol errors of workers, the latest: {reason}"

Handler = Callable[[str, Header, list[memoryview]], None]


class MessageHandler:
    """Handles each message that ingest receives; those of no open session do nothing.

    Parameters
    ----------
    accounting
        Counts protocol errors.
    sessions
        Which processes may send.
    pool, dispatcher, sink, swaps
        What the messages are for.
    watchdog
        Notified of commits.

    Attributes
    ----------
    failure
        First error that a local process has reported; None if there is none.
    """

    def __init__(
        self, accounting: RunAccounting, sessions: Sessions, pool: WorkerPool,
        dispatcher: Dispatcher, sink: SinkChannel, swaps: SwapCoordinator, watchdog: StallWatchdog,
    ) -> None:  # fmt: skip
        self._accounting, self._sessions, self._pool = accounting, sessions, pool
        self._dispatcher, self._sink, self._swaps = dispatcher, sink, swaps
        self._watchdog = watchdog
        self.failure: SluiceError | None = None
        #: Handler of each kind of message of a local process; called with name, header, payload.
        self._handlers: dict[Kind, Handler] = {
            Kind.ACK: self._on_ack, Kind.CREDIT: self._on_credit,
            Kind.HELLO: self._on_hello, Kind.READY: self._on_swap_reply,
            Kind.ERROR: self._on_error, Kind.EOR: sink.on_message,
            Kind.DISK_FULL: sink.on_message, Kind.HEARTBEAT: self._on_heartbeat,
            Kind.RESULT: self._on_segment_result,
        }  # fmt: skip

    def handle(self, message: Message, remote: bool) -> None:
        """Handle one message.

        Parameters
        ----------
        message
            The message.
        remote
            Whether it came to the socket for workers of other hosts.

        Raises
        ------
        ProtocolError
            If its sender may not send it now; it has done nothing then.
        """
        identity, header, payload = message
        kind = Kind(header.kind)
        if remote and kind is Kind.JOIN:
            self._pool.on_join(identity, header, payload)
            return
        name = self._sessions.sender(identity, header, remote=remote)
        if remote:
            self._pool.on_remote_message(name, header, payload)
        elif (handler := self._handlers.get(kind)) is not None:
            handler(name, header, payload)
        else:
            raise ProtocolError(f"unexpected {kind.name} of {name!r}")
        self._pool.record_message(name)

    def record_error(self, error: ProtocolError) -> None:
        """Count and log a message that broke the protocol."""
        self._accounting.record_protocol_error()
        event = "foreign-session" if isinstance(error, SessionError) else "protocol-error"
        limiter.warn(_LOG, event, _PROTOCOL_ERRORS, reason=error.message)

    def _on_credit(self, name: str, header: Header, _: list[memoryview]) -> None:
        self._dispatcher.on_credit(name, Credit.from_header(header))

    def _on_segment_result(self, name: str, header: Header, payload: list[memoryview]) -> None:
        result = Result.from_header(header)
        self._dispatcher.verify_result(name, result)
        self._dispatcher.take_result(name, result, payload)

    def _on_ack(self, _: str, header: Header, payload: list[memoryview]) -> None:
        ack = CommitAck.from_header(header)
        if self._dispatcher.commit(ack.first_seq, unpack_summaries(payload[0])):
            self._watchdog.progress()

    def _on_hello(self, name: str, _: Header, payload: list[memoryview]) -> None:
        self._pool.on_ready(name)
        if name == SINK:
            self._sink.on_ready()
        else:
            times = unpack_json(payload, ServiceTimes, "HELLO")
            self._dispatcher.on_worker_ready(name, times, self._pool.local[name].spec.segment)

    def _on_heartbeat(self, name: str, header: Header, payload: list[memoryview]) -> None:
        if name == SINK:
            self._sink.on_heartbeat(name, header, payload)

    def _on_swap_reply(self, name: str, _: Header, payload: list[memoryview]) -> None:
        self._swaps.on_reply(name, msgspec.json.decode(payload[0], type=SwapReply))

    def _on_error(self, _: str, __: Header, payload: list[memoryview]) -> None:
        error = msgspec.json.decode(payload[0], type=ErrorRecord)
        self.failure = self.failure or error.error()
