"""Batches between ingest and sink: who has each, who asked for more, which lost their owner."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..batch import EventBatch

#: So many small batches may fly for each full one of the window.
_SMALL_BATCHES = 64


@dataclass(slots=True)
class Flight:
    """A batch between ingest and sink, the worker that has it, and the slots that held it.

    `alone_ns` is when it was sent, if the worker had nothing else to do then, else 0.
    """

    batch: EventBatch
    #: Of the models that judge it, whoever does.
    epoch: int = 0
    #: Of the ladder.
    rung: int = 0
    worker: str = ""
    alone_ns: int = 0
    slots: list[int] = field(default_factory=list)


class Flights:
    """The batches in flight and the workers' credit.

    A worker judges batches in the order in which it was given them, and asks for another after
    each. So it is known which slots of shared memory a worker may still read and write: these are
    not free, even if the batch has landed because another worker was faster.

    Parameters
    ----------
    window
        Most full batches in flight; small ones count by their events.
    batch_events
        Events of a full batch.
    """

    def __init__(self, window: int, batch_events: int) -> None:
        self._most_events = (window - 1) * batch_events
        self._most_batches = _SMALL_BATCHES * window
        self._events = 0
        self._flights: dict[int, Flight] = {}
        self._orphans: deque[int] = deque()
        self._credit: dict[str, int] = {}
        #: Batch and slot of what each worker has to judge, in order.
        self._loads: dict[str, deque[tuple[int, int | None]]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __getitem__(self, seq: int) -> Flight:
        return self._flights[seq]

    @property
    def full(self) -> bool:
        """Whether the window has no room for a full batch."""
        return self._events > self._most_events or len(self._flights) >= self._most_batches

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
        return len(self._loads)

    def oldest_epoch(self, otherwise: int) -> int:
        """Return the earliest epoch of a batch in flight, or `otherwise` if there is none."""
        return min((flight.epoch for flight in self._flights.values()), default=otherwise)

    @property
    def oldest(self) -> int | None:
        """Number of the first batch in flight, None if there is none."""
        return min(self._flights, default=None)

    @property
    def quiet(self) -> bool:
        """Whether every worker has judged all that it was given."""
        return not any(self._loads.values())

    def ask(
        self, worker: str, batches: int, judged: int | None = None
    ) -> tuple[Flight | None, list[int]]:
        """Take a worker's wish for more, one for each batch judged.

        Returns
        -------
        flight, slots
            The batch that it has judged, if that is in flight still, and slots that are free.
        """
        self._credit[worker] = self._credit.get(worker, 0) + batches
        load = self._loads.setdefault(worker, deque())
        done = [load.popleft() for _ in range(min(batches, len(load)))]
        flight = None if judged is None else self._flights.get(judged)
        return flight, self._vacant(done)

    def asker(self) -> str | None:
        """Return the worker with the most credit left, or None if nobody asks."""
        return max(self._credit, key=self._credit.__getitem__, default=None)

    def is_idle(self, worker: str) -> bool:
        """Whether a worker has nothing to judge."""
        return not self._loads.get(worker)

    def add(self, flight: Flight) -> None:
        """Let a new batch into flight."""
        self._flights[flight.batch.seq] = flight
        self._events += flight.batch.events

    def orphan(self) -> int | None:
        """Return a batch that has lost its owner, if there is one; it is no orphan any more."""
        while self._orphans:
            seq = self._orphans.popleft()
            if seq in self._flights:  # its result may have reached the sink before the death
                return seq
        return None

    def give(self, seq: int, worker: str, slot: int | None) -> None:
        """Note that a worker was sent a batch for its credit, in a slot or as payload."""
        flight = self._flights[seq]
        flight.worker = worker
        flight.alone_ns = time.monotonic_ns() if self.is_idle(worker) else 0
        if slot is not None:
            flight.slots.append(slot)
        self._loads.setdefault(worker, deque()).append((seq, slot))
        self._credit[worker] -= 1
        if not self._credit[worker]:
            del self._credit[worker]

    def refuse(self, seq: int, worker: str) -> None:
        """Note that a batch could not be sent: it waits, and the worker must ask anew."""
        self._orphans.append(seq)
        del self._credit[worker]

    def land(self, seq: int) -> tuple[EventBatch, list[int]] | None:
        """Take a committed batch out; return it and slots that are free, or None if it is out."""
        flight = self._flights.pop(seq, None)
        if flight is None:
            return None
        self._events -= flight.batch.events
        busy = {slot for load in self._loads.values() for _, slot in load}
        return flight.batch, [slot for slot in flight.slots if slot not in busy]

    def bereave(self, worker: str) -> list[int]:
        """Take a dead worker's batches and credit back; return slots that are free."""
        self._credit.pop(worker, None)
        self._orphans.extend(s for s, flight in self._flights.items() if flight.worker == worker)
        return self._vacant(self._loads.pop(worker, ()))

    def recall(self) -> None:
        """Take every batch back, to be sent anew: a sink that is gone may have had any of them."""
        self._orphans = deque(sorted(self._flights))

    def give_up(self) -> Iterator[EventBatch]:
        """Yield and forget all batches, in the order of their numbers."""
        self._events = 0
        for seq in sorted(self._flights):
            yield self._flights.pop(seq).batch

    def _vacant(self, load: Iterable[tuple[int, int | None]]) -> list[int]:
        """Return the slots of a load that a worker is done with and whose batches have landed."""
        return [slot for seq, slot in load if slot is not None and seq not in self._flights]
