"""Limits of HTTP connections: no client keeps others, or the engine, from descriptors.

A connection that sends no whole request in time is closed. When there are too many, the one that
has waited longest for a request makes way for the new one, so that a health check is answered
whatever other clients do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

#: Largest number of connections, of all clients and of one address.
MAX_CONNECTIONS, MAX_PER_ADDRESS = 64, 32
#: Time for the head of a request to arrive, and for a client to read its answer, s.
REQUEST_TIMEOUT_S = 10.0
#: Largest head of a request, bytes.
MAX_HEAD_BYTES = 16_384
#: Largest request, bytes: no action has a body.
MAX_REQUEST_BYTES = 131_072


class Connections:
    """The open connections of a server, in the order in which they began to wait for a request."""

    def __init__(self) -> None:
        self._address: dict[BoundedProtocol, str] = {}
        self._waiting: dict[BoundedProtocol, None] = {}

    def admit(self, connection: BoundedProtocol, address: str) -> bool:
        """Add a connection, if necessary in place of a waiting one; return whether it may stay."""
        of_address = [one for one, other in self._address.items() if other == address]
        admitted = True
        if len(of_address) >= MAX_PER_ADDRESS:
            admitted = self._close_longest_waiting(of_address)
        if admitted and len(self._address) >= MAX_CONNECTIONS:
            admitted = self._close_longest_waiting(self._address)
        if admitted:
            self._address[connection] = address
            self.wait(connection)
        return admitted

    def wait(self, connection: BoundedProtocol) -> None:
        """Record that a connection waits for a request from now on."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = None

    def serve(self, connection: BoundedProtocol) -> None:
        """Record that a connection has sent a request."""
        self._waiting.pop(connection, None)

    def remove(self, connection: BoundedProtocol) -> None:
        """Forget a connection that is closed."""
        self._address.pop(connection, None)
        self._waiting.pop(connection, None)

    def _close_longest_waiting(self, among: Iterable[BoundedProtocol]) -> bool:
        candidates = set(among)
        oldest = next((one for one in self._waiting if one in candidates), None)
        if oldest is None:
            return False
        self.remove(oldest)
        oldest.abort()
        return True


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 of one connection, with limits of time and size.

    Uvicorn makes one for each connection; `bounded` gives those of a server their common `limits`.
    """

    limits: Connections

    def connection_made(self, transport: Any) -> None:
        """Admit the connection, or close it."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._received_bytes = 0  # since the last request began
        address = self.client[0] if self.client else ""
        if self.limits.admit(self, address):
            self._limit_time()
        else:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._cancel_timer()
        self.limits.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process received bytes; a request that is too long closes the connection."""
        self._received_bytes += len(data)
        if self._received_bytes > MAX_REQUEST_BYTES:
            self.abort()
            return
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:  # the head of a request is complete
            self._received_bytes = len(data)
            self._cancel_timer()
            self.limits.serve(self)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self.cycle.response_complete:  # else the next request had come already
            self.limits.wait(self)
            self._limit_time()

    def pause_writing(self) -> None:
        """Limit the time for the client to read."""
        super().pause_writing()
        self._limit_time()

    def resume_writing(self) -> None:
        """Lift the limit: the client reads. After the answer the limit is for the next request."""
        super().resume_writing()
        if not self.cycle.response_complete:
            self._cancel_timer()

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def _limit_time(self) -> None:
        self._cancel_timer()
        self._timer = self.loop.call_later(REQUEST_TIMEOUT_S, self.abort)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def bounded() -> type[BoundedProtocol]:
    """Return the protocol class of one server, whose connections are counted together."""
    return type("ServerProtocol", (BoundedProtocol,), {"limits": Connections()})
