"""Heartbeats: each process sends one a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.socket import Socket

#: How often a process says that it is there.
HEARTBEAT_S = 1.0


class Heartbeat:
    """The signs of life of one process, given from its main loop.

    Parameters
    ----------
    hub
        The way to ingest.
    payload
        What goes with each.
    """

    def __init__(self, hub: Socket, payload: Callable[[], list[bytes]] = list) -> None:
        self._hub, self._payload = hub, payload
        self._last_s = 0.0

    def send_if_due(self) -> None:
        """Give a sign of life if the last was a second ago."""
        now_s = time.monotonic()
        if now_s - self._last_s >= HEARTBEAT_S:
            self._last_s = now_s
            self.send()

    def send(self) -> None:
        """Give a sign of life now."""
        self._hub.send(Header(Kind.HEARTBEAT), *self._payload())
