"""A sink that sends each event's id and latents back to the client, for measuring as peers are."""

from __future__ import annotations

import socket
import struct
from typing import Any

import numpy as np
from msgspec import Struct

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.sinks.base import Keep


class ReplySink:
    """A `Sink` that sends ``events, their ids, the column`` over a local socket."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Address of the client, and the column it wants."""

        path: str
        column: str

    keep: Keep = "all"
    disk_full_timeout_s = 0.0
    max_group_delay_s = 0.0

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._path, self._column = options.path, options.column
        self.columns = ("event_id", options.column)
        self._events = 0

    def open(
        self, schema: Schema, bor: dict[str, Any], since: int | None = None
    ) -> list[CommitRecord]:
        """Connect to the client; there is no journal."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(120)
        self._socket.connect(self._path)
        return []

    def write(self, batch: EventBatch, commit: CommitRecord) -> None:
        """Send one batch."""
        if not batch.events:
            return
        ids, values = (np.ascontiguousarray(batch[name]) for name in self.columns)
        head = struct.pack("<QQ", batch.events, values.nbytes)
        self._socket.sendall(b"".join((head, ids.data.cast("B"), values.data.cast("B"))))
        self._events += batch.events

    def close(self, eor: dict[str, Any] | None) -> None:
        """Close the connection."""
        self._socket.close()

    def describe(self) -> dict[str, Any]:
        """Return the number of events sent."""
        return {"path": self._path, "events": self._events}
