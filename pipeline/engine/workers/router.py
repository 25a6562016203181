"""ROUTER sockets of ingest and of the sink, for local and remote processes of a run."""

from __future__ import annotations

import time
from typing import Any

from sluice.pipeline.config.graph_file import WorkersTable
from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.transport.curve_keys import load_server_auth
from sluice.pipeline.transport.protocol import Header, Limits
from sluice.pipeline.transport.socket import Message, Socket

#: Messages that are received in one turn, of processes of this host and of others, and the time for
#: the latter, s: whatever other hosts send, local processes are heard and the rest goes on.
_MAX_LOCAL, _MAX_REMOTE = 1000, 64
_MAX_REMOTE_S = 0.002
#: More messages of a peer on another host than are received in one turn wait with their sender.
_REMOTE_LIMITS = Limits(receive_queue=_MAX_REMOTE)


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
        self._local_left = self._remote_left = 0
        self._remote_until_s = 0.0

    def start_turn(self) -> None:
        """Let `receive` return messages again, up to the limits of one turn."""
        self._local_left, self._remote_left = _MAX_LOCAL, _MAX_REMOTE
        self._remote_until_s = 0.0

    def receive(self) -> tuple[Message, bool] | None:
        """Return the next message of this turn and whether its peer is remote, or None.

        None if no message waits, or if the turn has had as many as it may have. Those of local
        processes come first.

        Raises
        ------
        ProtocolError
            If the message breaks the protocol; it is consumed.
        """
        if self._local_left:
            self._local_left -= 1
            message = self._local.receive()
            if message is not None:
                return message, False
            self._local_left = 0
        message = self._receive_remote()
        return None if message is None else (message, True)

    def _receive_remote(self) -> Message | None:
        now_s = time.monotonic()
        self._remote_until_s = self._remote_until_s or now_s + _MAX_REMOTE_S
        if self._remote is None or not self._remote_left or now_s > self._remote_until_s:
            return None
        self._remote_left -= 1
        return self._remote.receive()

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
    remote = open_remote(workers.listen, workers)
    return Router(Socket(f"ipc://{context.run_directory}/ingest"), remote)


def open_remote(endpoint: str, workers: WorkersTable) -> Socket | None:
    """Return a socket for workers of other hosts; None without an endpoint."""
    if not endpoint:
        return None
    security = load_server_auth(workers.security, "workers")
    return Socket(endpoint, security=security, limits=_REMOTE_LIMITS)
