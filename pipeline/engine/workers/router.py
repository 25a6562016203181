"""The ways into ingest from workers and sink: of this host, and, where asked for, of others."""

from __future__ import annotations

from typing import Any

from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.transport.curve_keys import load_server_auth
from sluice.pipeline.transport.protocol import Header
from sluice.pipeline.transport.socket import Message, Socket


class Router:
    """One or two ROUTERs that act as one; answers go the way a peer came.

    Parameters
    ----------
    own
        For the processes of this run on this host.
    gate
        For workers of other hosts; None for none.
    """

    def __init__(self, own: Socket, gate: Socket | None = None) -> None:
        self.endpoint = own.endpoint
        self.sockets = [own] if gate is None else [own, gate]
        self._own, self._gate = own, gate
        self._far: set[bytes] = set()

    def receive(self) -> tuple[Message, bool] | None:
        """Return the next message and whether it came from afar, or None if there is none.

        Raises
        ------
        ProtocolError
            If the message breaks the protocol; it is consumed.
        """
        message = self._own.receive()
        if message is not None:
            return message, False
        if self._gate is None or (message := self._gate.receive()) is None:
            return None
        return message, True

    def send(self, header: Header, *payload: Any, to: bytes) -> bool:
        """Send to a peer; False if it is gone or its queue is full."""
        socket = self._gate if self._gate is not None and to in self._far else self._own
        return socket.send(header, *payload, to=to)

    def reject(self, header: Header, *payload: Any, to: bytes) -> None:
        """Answer a stranger who came through the gate."""
        if self._gate is not None:
            self._gate.send(header, *payload, to=to)

    def is_remote(self, peer: bytes) -> bool:
        """Whether a peer is reached through the gate."""
        return peer in self._far

    def add_remote(self, peer: bytes) -> None:
        """Send to a peer through the gate from now on."""
        self._far.add(peer)

    def remove_remote(self, peer: bytes) -> None:
        """Forget where a peer came from."""
        self._far.discard(peer)

    @property
    def refused(self) -> int:
        """Connections from afar that were dropped for want of the right key."""
        return 0 if self._gate is None else self._gate.refused

    def close(self) -> None:
        """Close the sockets."""
        for socket in self.sockets:
            socket.close()


def open_router(plan: RunContext) -> Router:
    """Listen for the processes of a run, where the graph says so also for those of other hosts."""
    workers = plan.graph.config.workers
    gate = None
    if workers.listen:
        gate = Socket(workers.listen, security=load_server_auth(workers.security, "workers"))
    return Router(Socket(f"ipc://{plan.runtime}/hub"), gate)
