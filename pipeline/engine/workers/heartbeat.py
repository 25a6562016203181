"""Heartbeats that a process of the distributed engine sends to ingest, one per second."""

from __future__ import annotations

import time
from collections.abc import Callable

from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.socket import Socket

#: Interval between heartbeats, s.
HEARTBEAT_S = 1.0


class Heartbeat:
    """Heartbeats of one process, sent from its main loop.

    Parameters
    ----------
    ingest
        Socket connected to ingest.
    payload
        Returns the payload frames of a heartbeat; none by default.
    """

    def __init__(self, ingest: Socket, payload: Callable[[], list[bytes]] = list) -> None:
        self._ingest, self._payload = ingest, payload
        self._last_s = 0.0

    def send_if_due(self) -> None:
        """Send a heartbeat if `HEARTBEAT_S` has passed since the last."""
        now_s = time.monotonic()
        if now_s - self._last_s >= HEARTBEAT_S:
            self._last_s = now_s
            self.send()

    def send(self) -> None:
        """Send a heartbeat now."""
        self._ingest.send(Header(Kind.HEARTBEAT), *self._payload())
