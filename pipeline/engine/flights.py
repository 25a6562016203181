"""Batches between ingest and sink: who has each, who asked for more, which lost their owner."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..batch import EventBatch


@dataclass(slots=True)
class Flight:
    """A batch between ingest and sink, the worker that has it, and the slots that held it.

    `alone_ns` is when it was sent, if the worker had nothing else to do then, else 0.
    """

    batch: EventBatch
    #: Of the models that judge it, whoever does.
    epoch: int = 0
    worker: str = ""
    alone_ns: int = 0
    slots: list[int] = field(default_factory=list)


class Flights:
    """The batches in flight and the workers' credit.

    Parameters
    ----------
    window
        Most batches in flight.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._flights: dict[int, Flight] = {}
        self._orphans: deque[int] = deque()
        self._credit: dict[str, int] = {}
        #: Batches that each worker has and has not judged yet.
        self._busy: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __getitem__(self, seq: int) -> Flight:
        return self._flights[seq]

    @property
    def full(self) -> bool:
        """Whether the window has no room."""
        return len(self._flights) >= self._window

    @property
    def blocked(self) -> bool:
        """Whether no batch may go out: the window is full, or nobody asked."""
        return self.full or not self._credit

    @property
    def workers(self) -> list[str]:
        """Names of the workers that have batches."""
        return sorted({flight.worker for flight in self._flights.values()})

    @property
    def crew(self) -> int:
        """Workers that have asked since they began."""
        return len(self._busy)

    def oldest_epoch(self, otherwise: int) -> int:
        """Return the earliest epoch of a batch in flight, or `otherwise` if there is none."""
        return min((flight.epoch for flight in self._flights.values()), default=otherwise)

    def ask(self, worker: str, batches: int, judged: int | None = None) -> Flight | None:
        """Take a worker's wish for more; return the batch that it has judged, if any."""
        self._credit[worker] = self._credit.get(worker, 0) + batches
        busy = self._busy.setdefault(worker, 0)
        if judged is None:
            return None
        self._busy[worker] = max(0, busy - 1)
        return self._flights.get(judged)

    def asker(self) -> str | None:
        """Return the worker with the most credit left, or None if nobody asks."""
        return max(self._credit, key=self._credit.__getitem__, default=None)

    def is_idle(self, worker: str) -> bool:
        """Whether a worker has nothing to judge."""
        return not self._busy.get(worker)

    def add(self, flight: Flight) -> None:
        """Let a new batch into flight."""
        self._flights[flight.batch.seq] = flight

    def orphan(self) -> int | None:
        """Return a batch that has lost its owner, if there is one; it is no orphan any more."""
        while self._orphans:
            seq = self._orphans.popleft()
            if seq in self._flights:  # its result may have reached the sink before the death
                return seq
        return None

    def give(self, seq: int, worker: str) -> None:
        """Note that a worker was sent a batch for its credit."""
        flight = self._flights[seq]
        flight.worker = worker
        flight.alone_ns = time.monotonic_ns() if self.is_idle(worker) else 0
        self._busy[worker] = self._busy.get(worker, 0) + 1
        self._credit[worker] -= 1
        if not self._credit[worker]:
            del self._credit[worker]

    def refuse(self, seq: int, worker: str) -> None:
        """Note that a batch could not be sent: it waits, and the worker must ask anew."""
        self._orphans.append(seq)
        del self._credit[worker]

    def land(self, seq: int) -> Flight | None:
        """Take a committed batch out; None if it is out already."""
        return self._flights.pop(seq, None)

    def bereave(self, worker: str) -> None:
        """Take a dead worker's batches and credit back."""
        self._credit.pop(worker, None)
        self._busy.pop(worker, None)
        self._orphans.extend(s for s, flight in self._flights.items() if flight.worker == worker)

    def give_up(self) -> Iterator[EventBatch]:
        """Yield and forget all batches, in the order of their numbers."""
        for seq in sorted(self._flights):
            yield self._flights.pop(seq).batch
