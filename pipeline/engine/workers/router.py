"""ROUTER sockets of ingest and of the sink, for local and remote processes of a run."""

from __future__ import annotations

from typing import Any

from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.transport.curve_keys import load_server_auth
from sluice.pipeline.transport.protocol import Header
from sluice.pipeline.transport.socket import Message, Socket


class Router:
    """A local and an optional remote ROUTER socket that act as one.

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

    def send(self, header: Header, *payload: Any, to: bytes, remote: bool) -> bool:
        """Send to a peer by its identity; False if it has disconnected or its queue is full."""
        socket = self._remote if remote else self._local
        return socket is not None and socket.send(header, *payload, to=to)

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
