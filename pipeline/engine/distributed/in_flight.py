"""Batches between ingest and sink: who has each, who asked for more, which lost their owner."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sluice.pipeline.core.batch import EventBatch

#: So many small batches may fly for each full one of the window.
_SMALL_BATCHES = 64


@dataclass(slots=True)
class InFlightBatch:
    """A batch between ingest and sink, the worker that has it, and the slots that held it.

    `alone_ns` is when it was sent, if no worker that had it had anything else to do then, else 0.
    """

    batch: EventBatch
    #: Of the models that judge it, whoever does.
    epoch: int = 0
    #: Of the ladder.
    rung: int = 0
    worker: str = ""
    sent_idle_ns: int = 0
    used_slots: list[int] = field(default_factory=list)
    #: That it lies in now; None if it travels.
    slot: int | None = None
    #: Of the chain: which judges it, or comes next; what earlier ones took, ns, and have found.
    segment: int = 0
    service_ns: int = 0
    segment_payload: Sequence[Any] = ()


class InFlight:
    """The batches in flight and the workers' credit.

    A batch goes from segment to segment of the chain, each time to a worker that asked; one that
    loses its worker begins anew.

    A worker judges batches in the order in which it was given them, and asks for another after
    each. So it is known which slots of shared memory a worker may still read and write: these are
    not free, even if the batch has landed because another worker was faster.

    Parameters
    ----------
    window
        Most full batches in flight; small ones count by their events.
    batch_events
        Events of a full batch.
    segments
        Of the chain.
    """

    def __init__(self, window: int, batch_events: int, segments: int = 1) -> None:
        self._most_events = (window - 1) * batch_events
        self._most_batches = _SMALL_BATCHES * window
        self._events = 0
        self._flights: dict[int, InFlightBatch] = {}
        self._orphans: deque[int] = deque()
        #: Batches that come next to each segment.
        self._waiting: list[deque[int]] = [deque() for _ in range(segments)]
        self._segments: dict[str, int] = {}
        self._credit: dict[str, int] = {}
        #: Batch and slot of what each worker has to judge, in order.
        self._loads: dict[str, deque[tuple[int, int | None]]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __getitem__(self, seq: int) -> InFlightBatch:
        return self._flights[seq]

    def get(self, seq: int) -> InFlightBatch | None:
        """Return a batch, None if it has landed."""
        return self._flights.get(seq)

    @property
    def full(self) -> bool:
        """Whether the window has no room for a full batch."""
        return self._events > self._most_events or len(self._flights) >= self._most_batches

    @property
    def blocked(self) -> bool:
        """Whether no batch may go out: the window is full, or nobody asked."""
        return self.full or self.asker() is None

    @property
    def workers(self) -> list[str]:
        """Names of the workers that have batches."""
        return sorted({flight.worker for flight in self._flights.values()} - {""})

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

    def station(self, worker: str, segment: int) -> None:
        """Note which segment a worker runs."""
        self._segments[worker] = segment

    def add_credit(
        self, worker: str, batches: int, judged: int | None = None
    ) -> tuple[InFlightBatch | None, list[int]]:
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
        return flight, self._free_slots(done)

    def pass_on(
        self, worker: str, seq: int, found: Sequence[Any], took_ns: int, *, lies: bool = True
    ) -> list[int]:
        """Take a batch back from a worker whose segment is not the last; it asks for another.

        Parameters
        ----------
        worker, seq
            Who had which batch.
        found
            What goes with it to the next segment.
        took_ns
            What the worker took.
        lies
            Whether it lies in the slot that it lay in before.

        Returns
        -------
        slots
            That are free.
        """
        load = self._loads.get(worker)
        if not load or load[0][0] != seq:
            return []  # it was given up
        slot = load[0][1]
        _, free = self.add_credit(worker, 1)
        flight = self._flights.get(seq)
        if flight is not None and flight.worker == worker and flight.slot == slot:
            flight.worker, flight.segment_payload = "", found
            flight.slot = slot if lies else None
            flight.segment += 1
            flight.service_ns += took_ns
            self._waiting[flight.segment].append(seq)
        return free

    def next_for(self, segment: int) -> int | None:
        """Return a batch that comes next to a segment behind the first, if there is one."""
        waiting = self._waiting[segment]
        while waiting:
            seq = waiting.popleft()
            flight = self._flights.get(seq)
            if flight is not None and flight.segment == segment and not flight.worker:
                return seq
        return None

    def asker(self, segment: int = 0) -> str | None:
        """Return the worker of a segment with the most credit left, or None if nobody asks."""
        if len(self._waiting) == 1:
            return max(self._credit, key=self._credit.__getitem__, default=None)
        asking = [w for w in self._credit if self._segments.get(w, 0) == segment]
        return max(asking, key=self._credit.__getitem__, default=None)

    def is_idle(self, worker: str) -> bool:
        """Whether a worker has nothing to judge."""
        return not self._loads.get(worker)

    def add(self, flight: InFlightBatch) -> None:
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

    def assign(self, seq: int, worker: str, slot: int | None) -> None:
        """Note that a worker was sent a batch for its credit, in a slot or as payload."""
        flight = self._flights[seq]
        flight.worker = worker
        since_ns = flight.sent_idle_ns if flight.segment else time.monotonic_ns()
        flight.sent_idle_ns = since_ns if self.is_idle(worker) else 0
        flight.slot = slot
        if slot is not None and slot not in flight.used_slots:
            flight.used_slots.append(slot)
        self._loads.setdefault(worker, deque()).append((seq, slot))
        self._credit[worker] -= 1
        if not self._credit[worker]:
            del self._credit[worker]

    def on_send_failed(self, seq: int, worker: str) -> None:
        """Note that a batch could not be sent: it waits, and the worker must ask anew."""
        self._begin_anew((seq,))
        del self._credit[worker]

    def complete(self, seq: int) -> tuple[EventBatch, list[int]] | None:
        """Take a committed batch out; return it and slots that are free, or None if it is out."""
        flight = self._flights.pop(seq, None)
        if flight is None:
            return None
        self._events -= flight.batch.events
        busy = {slot for load in self._loads.values() for _, slot in load}
        return flight.batch, [slot for slot in flight.used_slots if slot not in busy]

    def assigned(self, worker: str) -> int:
        """Return the number of batches that a worker has."""
        return sum(flight.worker == worker for flight in self._flights.values())

    def reclaim(self, worker: str) -> list[int]:
        """Take a dead worker's batches and credit back; return slots that are free."""
        self._credit.pop(worker, None)
        self._begin_anew([s for s, flight in self._flights.items() if flight.worker == worker])
        return self._free_slots(self._loads.pop(worker, ()))

    def requeue_all(self) -> None:
        """Take every batch back, to be sent anew: a sink that is gone may have had any of them."""
        self._orphans.clear()
        self._begin_anew(sorted(self._flights))

    def give_up(self) -> Iterator[EventBatch]:
        """Yield and forget all batches, in the order of their numbers."""
        self._events = 0
        for seq in sorted(self._flights):
            yield self._flights.pop(seq).batch

    def _begin_anew(self, seqs: Iterable[int]) -> None:
        """Let batches wait for the first segment, in another slot than before."""
        for seq in seqs:
            flight = self._flights[seq]
            flight.worker, flight.slot, flight.segment_payload = "", None, ()
            flight.segment = flight.service_ns = 0
            self._orphans.append(seq)

    def _free_slots(self, load: Iterable[tuple[int, int | None]]) -> list[int]:
        """Return the slots of a load that a worker is done with and whose batches have landed."""
        return [slot for seq, slot in load if slot is not None and seq not in self._flights]
