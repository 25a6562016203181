"""ROUTER sockets of ingest and of the sink, for local and remote processes of a run."""

from __future__ import annotations

from typing import Any

from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.transport.curve_keys import load_server_auth
from sluice.pipeline.transport.protocol import Header
from sluice.pipeline.transport.socket import Message, Socket


class Router:
    """A local and an optional remote ROUTER socket that act as one.

    An answer goes out on the socket on which its peer is registered.

    Parameters
    ----------
    local
        Socket for the processes of this run on this host.
    remote
        Socket for workers of other hosts; None if they may not join.
    """

    def __init__(self, local: Socket, remote: Socket | None = None) -> None:
        self.endpoint = local.endpoint
        self.sockets = [local] if remote is None else [local, remote]
        self._local, self._remote = local, remote
        self._remote_peers: set[bytes] = set()

    def receive(self) -> tuple[Message, bool] | None:
        """Return the next message and whether its peer is remote, or None if none waits.

        Raises
        ------
        ProtocolError
            If the message breaks the protocol; it is consumed.
        """
        message = self._local.receive()
        if message is not None:
            return message, False
        if self._remote is None or (message := self._remote.receive()) is None:
            return None
        return message, True

    def send(self, header: Header, *payload: Any, to: bytes) -> bool:
        """Send to a peer; False if it has disconnected or its queue is full."""
        socket = (
            self._remote if self._remote is not None and to in self._remote_peers else self._local
        )
        return socket.send(header, *payload, to=to)

    def reject(self, header: Header, *payload: Any, to: bytes) -> None:
        """Answer a remote peer that is not registered."""
        if self._remote is not None:
            self._remote.send(header, *payload, to=to)

    def is_remote(self, peer: bytes) -> bool:
        """Whether a peer is registered as remote."""
        return peer in self._remote_peers

    def add_remote(self, peer: bytes) -> None:
        """Send to this peer on the remote socket from now on."""
        self._remote_peers.add(peer)

    def remove_remote(self, peer: bytes) -> None:
        """Remove a peer from the registered remote peers."""
        self._remote_peers.discard(peer)

    @property
    def refused(self) -> int:
        """Number of remote connections that were refused because their key is not allowed."""
        return 0 if self._remote is None else self._remote.refused

    def close(self) -> None:
        """Close the sockets."""
        for socket in self.sockets:
            socket.close()


def open_router(context: RunContext) -> Router:
    """Open the sockets for the processes of a run, and for remote workers if configured."""
    workers = context.graph.config.workers
    remote = None
    if workers.listen:
        remote = Socket(workers.listen, security=load_server_auth(workers.security, "workers"))
    return Router(Socket(f"ipc://{context.run_directory}/ingest"), remote)
