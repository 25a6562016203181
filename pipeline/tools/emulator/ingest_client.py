"""A front end's connection to ingest, which may go away and come back."""

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

_ANSWER_S = 10.0
_LOOK_S = 0.1
#: Ingest answers BOR sooner than this, or it was lost.
_AGAIN_S = 1.0


class IngestClient:
    """A front end's side of the talk with ingest, which may go away and come back.

    Ingest tells now and then how far it has understood. One that was started anew knows nobody and
    says HELLO; it is told from where on to count, so that what it never saw shows as lost.

    Parameters
    ----------
    endpoint, schema, source, security
        See `FrontEndEmulator`.
    """

    def __init__(
        self, endpoint: str, schema: Schema, source: int, security: ClientAuth | None
    ) -> None:
        name = f"front-end-{source}-{os.getpid()}"
        self._socket = Socket(endpoint, name, security=security, queue_while_disconnected=False)
        self._endpoint = endpoint
        self._schema = pack_schema(schema)
        self._source = source
        self._asked_s = -math.inf
        #: The event counter up to which ingest has said that it understood.
        self.understood = 0
        self.begun = 0
        #: Most bytes of a message; 0 for no limit.
        self.most_bytes = 0
        #: Whether ingest has asked for a pause.
        self.busy = False
        self.send = self._socket.send
        self.close = self._socket.close

    def begin(self) -> None:
        """Say what will come, wait until ingest agrees; RunError if it does not."""
        self._insist(BeginOfRun(0, self._source).to_header(), self._schema)
        self._await("BOR", self._look)

    def look(self) -> None:
        """Take what ingest has said; a new ingest is told anew what will come."""
        while self._look() is not None:
            pass

    def end(self, first: int) -> None:
        """Say that `first` events were all, wait until ingest has understood."""

        def finished() -> bool:
            begun = self.begun
            header = self._look()
            if self.begun != begun:  # to an ingest that was not there before
                self._insist(last)
            if header is None or header.kind != Kind.ACK:
                return False
            return EventAck.from_header(header).next_event >= first

        last = EndOfRun(first, self._source).to_header()
        self._insist(last)
        self._await("EOR", finished)

    def _look(self) -> Header | None:
        """Take one message, if there is one."""
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
            self._asked_s = -math.inf
            ack = EventAck.from_header(header)
            self.understood = max(self.understood, ack.next_event)
            self.most_bytes = ack.max_message_bytes or self.most_bytes
        elif header.kind == Kind.BUSY:
            self.busy = Busy.from_header(header).pause
        elif header.kind == Kind.HELLO and time.monotonic() - self._asked_s > _AGAIN_S:
            self.busy = False
            self._asked_s = time.monotonic()  # one HELLO comes for each message it did not know
            begin = BeginOfRun(self.understood, self._source).to_header()
            self.begun += self.send(begin, self._schema)
        return header

    def _insist(self, header: Header, *payload: Any) -> None:
        """Send as soon as there is a connection."""
        deadline = time.monotonic() + _ANSWER_S
        while not self.send(header, *payload):
            self._give_up(Kind(header.kind).name, deadline)
            self._socket.poll(_LOOK_S)

    def _await(self, to: str, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + _ANSWER_S
        while not (self._socket.poll(_LOOK_S) and done()):
            self._give_up(to, deadline)

    def _give_up(self, to: str, deadline: float) -> None:
        """Raise RunError if it is of no use to wait, or waiting was long enough."""
        trouble = self._socket.last_failure
        if trouble is not None and trouble.final:
            raise RunError(f"{self._endpoint}: {trouble.why}", trouble.hint)
        if time.monotonic() > deadline:
            raise RunError(
                f"{self._endpoint}: no answer to {to} in {_ANSWER_S:g} s"
                + (f": {trouble.why}" if trouble else ""),
                trouble.hint if trouble else "is `sluice run` listening there?",
            )
