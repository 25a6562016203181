"""A source slowed down to a set rate, so that a replay looks like a detector."""

from __future__ import annotations

import time
from collections.abc import Collection

import numpy as np

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import T_INGEST, Schema

from .base import NONE, Available, Losses, SelectsColumns, Source


class PacedSource:
    """Releases events of another source at a constant rate.

    Parameters
    ----------
    inner
        The source to slow down.
    rate_hz
        Events per second.
    """

    def __init__(self, inner: Source, rate_hz: float) -> None:
        self._inner = inner
        self._period_ns = 1e9 / rate_hz
        self._released = 0
        self._started_ns = 0
        self.socket = inner.socket

    @property
    def schema(self) -> Schema:
        """Columns of the inner source."""
        return self._inner.schema

    @property
    def exhausted(self) -> bool:
        """Whether the inner source is exhausted."""
        return self._inner.exhausted

    @property
    def corruption(self) -> str | None:
        """Damage of the inner source's input; None without damage."""
        return self._inner.corruption

    @property
    def expected(self) -> int | None:
        """Number of events of the whole input; None if the inner source does not know it."""
        return self._inner.expected

    def open(self) -> None:
        """Open the inner source."""
        self._inner.open()

    def select_columns(self, names: Collection[str], events: int) -> None:
        """Let the inner source read these columns only, if it can."""
        if isinstance(self._inner, SelectsColumns):
            self._inner.select_columns(names, events)

    def receive(self) -> None:
        """Let the inner source receive from its socket."""
        self._inner.receive()

    def available(self) -> Available:
        """Return the events that are due."""
        if self._inner.exhausted:
            return NONE
        now = time.monotonic_ns()
        self._started_ns = self._started_ns or now
        due = int((now - self._started_ns) / self._period_ns) + 1 - self._released
        next_ns = self._due_ns(self._released)
        if due < 1:
            return Available(0, next_in_s=(next_ns - now) / 1e9)
        return Available(due, next_ns, self._period_ns / 1e9)

    def read(self, max_events: int) -> EventBatch | None:
        """Return the events that are due."""
        due = self.available().events
        batch = self._inner.read(min(max_events, due)) if due else None
        if batch is None:
            return None
        numbers = self._released + np.arange(batch.events)
        self._released += batch.events
        due_ns = self._started_ns + (numbers * self._period_ns).astype(np.int64)
        return batch.with_columns(**{T_INGEST.name: due_ns})

    def shift(self, ns: int) -> None:
        """Release all further events `ns` nanoseconds later."""
        self._started_ns += ns if self._started_ns else 0

    def stop(self) -> None:
        """Read no further."""
        self._inner.stop()

    def losses(self) -> Losses:
        """Return the losses of the inner source since the last call."""
        return self._inner.losses()

    def close(self) -> None:
        """Close the inner source."""
        self._inner.close()

    def _due_ns(self, number: int) -> int:
        return self._started_ns + int(number * self._period_ns)
