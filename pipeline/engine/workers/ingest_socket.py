"""A process's socket to ingest: every message belongs to the session of the process."""

from __future__ import annotations

import logging
from typing import Any

from sluice.pipeline.core.log import limiter
from sluice.pipeline.transport.protocol import Header, Kind, Session
from sluice.pipeline.transport.socket import Message, Socket
from sluice.pipeline.transport.zap import ConnectFailure

_LOG = logging.getLogger("sluice.engine")
_FOREIGN = "{count:,} messages of another session were dropped, the latest {kind} of run {run}"


class IngestSocket:
    """Sends messages of one session, and receives those of the same session only.

    Parameters
    ----------
    socket
        DEALER connected to ingest.
    session
        The session; a remote worker changes it when it has joined.

    Attributes
    ----------
    session
        Run number and session number of all messages.
    descriptor
        File descriptor that becomes readable when the state of the socket changes.
    """

    def __init__(self, socket: Socket, session: Session) -> None:
        self._socket, self.session = socket, session
        self.poll, self.close = socket.poll, socket.close
        self.descriptor = socket.descriptor

    def send(self, header: Header, *payload: Any) -> bool:
        """Send a message of this session; False if the queue is full."""
        return self._socket.send(header.of(self.session), *payload)

    def receive(self) -> Message | None:
        """Return the next message; None if there is none, or if it is of another session."""
        message = self._socket.receive()
        if message is None or message[1].is_of(self.session):
            return message
        header = message[1]
        limiter.warn(
            _LOG, "foreign-session", _FOREIGN, kind=Kind(header.kind).name, run=header.run
        )  # fmt: skip
        return None

    @property
    def last_failure(self) -> ConnectFailure | None:
        """Reason why the latest attempt to connect failed; None if ZeroMQ reported none."""
        return self._socket.last_failure

    @property
    def readable(self) -> bool:
        """Whether there is a message."""
        return self._socket.readable
