"""Heartbeats that a process of the distributed engine sends to ingest, one per second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sluice.pipeline.transport.protocol import Header, Kind

from .ingest_socket import IngestSocket

#: Interval between heartbeats, s.
HEARTBEAT_S = 1.0
_PLAIN = Header(Kind.HEARTBEAT)


class Heartbeat:
    """Heartbeats of one process, sent from its main loop.

    Parameters
    ----------
    ingest
        Socket connected to ingest.
    message
        Returns header and payload frames of a heartbeat; a header without fields by default.
    """

    def __init__(
        self, ingest: IngestSocket, message: Callable[[], list[Any]] = lambda: [_PLAIN]
    ) -> None:
        self._ingest, self._message = ingest, message
        self._last_s = 0.0

    def send_if_due(self) -> bool:
        """Send a heartbeat if `HEARTBEAT_S` has passed since the last; return whether it has."""
        now_s = time.monotonic()
        due = now_s - self._last_s >= HEARTBEAT_S
        if due:
            self._last_s = now_s
            self.send()
        return due

    def send(self) -> None:
        """Send a heartbeat now."""
        self._ingest.send(*self._message())
