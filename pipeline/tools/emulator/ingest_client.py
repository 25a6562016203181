"""Connection of a front end to ingest, which survives a restart of ingest."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any

from sluice.pipeline.core.errors import ProtocolError, RunError
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.transport.codec import pack_schema
from sluice.pipeline.transport.curve_keys import ClientAuth
from sluice.pipeline.transport.front_end_messages import BeginOfRun, Busy, EndOfRun, EventAck
from sluice.pipeline.transport.protocol import Header, Kind, unpack_json
from sluice.pipeline.transport.socket import Socket

#: Time for an answer of ingest, and longest wait for one message, s.
_ANSWER_S = 10.0
_POLL_S = 0.1
#: Messages that are handled between two messages with events, at most.
_MAX_MESSAGES = 256
#: Longest time in which ingest answers BOR, s; after it the BOR counts as lost.
_BOR_ANSWER_S = 1.0
#: Time after which a pause is over that ingest does not repeat, s; it repeats it once a second.
_BUSY_S = 3.0


class IngestClient:
    """Protocol of a front end towards ingest, which may be restarted.

    Ingest acknowledges events. After a restart it answers HELLO to messages of a front
    end that it does not know; BOR then names the last acknowledged event, so that events it never
    got count as lost.

    Parameters
    ----------
    endpoint, schema, source, security
        Parameters of `FrontEndEmulator`.
    """

    def __init__(
        self, endpoint: str, schema: Schema, source: int, security: ClientAuth | None
    ) -> None:
        name = f"front-end-{source}-{os.getpid()}"
        self._socket = Socket(endpoint, name, security=security, queue_while_disconnected=False)
        self._endpoint = endpoint
        self._schema = pack_schema(schema)
        self._source = source
        self._bor_sent_s = -math.inf
        #: Event counter up to which ingest has acknowledged.
        self.acknowledged = 0
        self.begun = 0
        #: Maximum size of a message, bytes; 0 for no limit.
        self.max_bytes = 0
        self._busy_until_s = -math.inf
        self.send = self._socket.send
        self.close = self._socket.close

    @property
    def busy(self) -> bool:
        """Whether ingest has asked for a pause, and has repeated it, as a running one does."""
        return time.monotonic() < self._busy_until_s

    def begin(self) -> None:
        """Send BOR and wait for the acknowledgement; RunError if there is none."""
        self._send_until_queued(BeginOfRun(0, self._source).to_header(), self._schema)
        self._await("BOR", self._receive)

    def receive_all(self) -> None:
        """Handle the messages that have arrived; send BOR again after a restart of ingest."""
        for _ in range(_MAX_MESSAGES):
            if self._receive() is None:
                return

    def end(self, first: int) -> None:
        """Send EOR after `first` events and wait until ingest has acknowledged them."""

        def finished() -> bool:
            begun = self.begun
            header = self._receive()
            if self.begun != begun:  # ingest was restarted and has not got EOR
                self._send_until_queued(last)
            if header is None or header.kind != Kind.ACK:
                return False
            return EventAck.from_header(header).next_event >= first

        last = EndOfRun(first, self._source).to_header()
        self._send_until_queued(last)
        self._await("EOR", finished)

    def _receive(self) -> Header | None:
        """Handle one message, if there is one."""
        try:
            message = self._socket.receive()
        except ProtocolError as error:
            raise RunError(f"{self._endpoint}: {error.message}", error.hint) from error
        if message is None:
            return None
        _, header, payload = message
        if header.kind == Kind.ERROR:
            why = unpack_json(payload, dict[str, str], "ERROR").get(
                "message", "it does not say why"
            )
            raise RunError(f"{self._endpoint} refuses: {why}")
        if header.kind == Kind.ACK:
            self._bor_sent_s = -math.inf
            ack = EventAck.from_header(header)
            self.acknowledged = max(self.acknowledged, ack.next_event)
            self.max_bytes = ack.max_message_bytes or self.max_bytes
        elif header.kind == Kind.BUSY:
            pause = Busy.from_header(header).pause
            self._busy_until_s = time.monotonic() + _BUSY_S if pause else -math.inf
        elif header.kind == Kind.HELLO and time.monotonic() - self._bor_sent_s > _BOR_ANSWER_S:
            self._busy_until_s = -math.inf
            self._bor_sent_s = time.monotonic()  # HELLO answers each message
            begin = BeginOfRun(self.acknowledged, self._source).to_header()
            self.begun += self.send(begin, self._schema)
        return header

    def _send_until_queued(self, header: Header, *payload: Any) -> None:
        """Send as soon as there is a connection; RunError after ten seconds without one."""
        deadline = time.monotonic() + _ANSWER_S
        while not self.send(header, *payload):
            self._give_up(Kind(header.kind).name, deadline)
            self._socket.poll(_POLL_S)

    def _await(self, to: str, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + _ANSWER_S
        while not (self._socket.poll(_POLL_S) and done()):
            self._give_up(to, deadline)

    def _give_up(self, to: str, deadline: float) -> None:
        """Raise RunError if the connection failed for good, or at the deadline."""
        failure = self._socket.last_failure
        if failure is not None and failure.final:
            raise RunError(f"{self._endpoint}: {failure.why}", failure.hint)
        if time.monotonic() > deadline:
            raise RunError(
                f"{self._endpoint}: no answer to {to} in {_ANSWER_S:g} s"
                + (f": {failure.why}" if failure else ""),
                failure.hint if failure else "is `sluice run` listening there?",
            )
