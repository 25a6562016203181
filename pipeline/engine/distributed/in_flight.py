"""Batches in flight between ingest and sink: their workers, slots and the workers' credit."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.engine.workers.process_spec import max_in_flight

from .in_flight_batch import InFlightBatch


class _Assigned(NamedTuple):
    """A batch that a worker has to process: its number, slot and token."""

    seq: int
    slot: int | None
    token: int


class InFlight:
    """The batches in flight and the workers' credit.

    A batch goes from segment to segment of the chain, each time to a worker with credit. A batch
    whose worker exits is requeued for the first segment.

    A worker processes its batches in the order in which they were assigned, and reports each. So
    the shared-memory slots that it may still read and write are known: these are not free, even if
    the batch is complete because another worker was faster.

    Parameters
    ----------
    window
        Largest number of full batches in flight; smaller ones count by their events.
    batch_events
        Events of a full batch.
    segments
        Number of segments of the chain.
    """

    def __init__(self, window: int, batch_events: int, segments: int = 1) -> None:
        self._max_events = (window - 1) * batch_events
        self._max_batches = max_in_flight(window)
        self._events = 0
        self._batches: dict[int, InFlightBatch] = {}
        self._requeued: deque[int] = deque()
        #: Numbers of the batches that wait for each segment after the first.
        self._waiting: list[deque[int]] = [deque() for _ in range(segments)]
        self._segments: dict[str, int] = {}
        self._credit: dict[str, int] = {}
        #: Credit of workers that could not be reached, until they send CREDIT again.
        self._withheld: dict[str, int] = {}
        #: Batches that each worker has asked for with CREDIT since its start.
        self._asked: dict[str, int] = {}
        #: What each worker has to process, in order.
        self._assigned: dict[str, deque[_Assigned]] = {}

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, seq: int) -> InFlightBatch:
        return self._batches[seq]

    def get(self, seq: int) -> InFlightBatch | None:
        """Return a batch, None if it is complete."""
        return self._batches.get(seq)

    @property
    def full(self) -> bool:
        """Whether a full batch would exceed the window."""
        return self._events > self._max_events or len(self._batches) >= self._max_batches

    @property
    def blocked(self) -> bool:
        """Whether no batch may be sent: the window is full, or no worker has credit."""
        return self.full or self.next_worker() is None

    @property
    def workers(self) -> list[str]:
        """Names of the workers that have batches."""
        return sorted({entry.worker for entry in self._batches.values()} - {""})

    @property
    def worker_count(self) -> int:
        """Number of workers that have asked for batches since their start."""
        return len(self._assigned)

    def oldest_epoch(self, otherwise: int) -> int:
        """Return the smallest epoch of a batch in flight, `otherwise` if there is none."""
        return min((entry.epoch for entry in self._batches.values()), default=otherwise)

    @property
    def oldest(self) -> int | None:
        """Number of the first batch in flight, None if there is none."""
        return min(self._batches, default=None)

    @property
    def idle(self) -> bool:
        """Whether every worker has processed all batches assigned to it."""
        return not any(self._assigned.values())

    def assign_segment(self, worker: str, segment: int) -> None:
        """Record which segment a worker runs."""
        self._segments[worker] = segment

    def add_credit(
        self, worker: str, asked: int, last_seq: int | None = None
    ) -> tuple[InFlightBatch | None, list[int]]:
        """Add to the credit of a worker, by the number of batches that it has processed.

        Parameters
        ----------
        worker
            Name of the worker.
        asked
            Number of batches that it has asked for since its start; no more than before in a
            message that came twice or late.
        last_seq
            Number of the last batch that it has processed; None at the start.

        Returns
        -------
        entry, slots
            That batch, if it is still in flight, and the slots that became free.
        """
        if worker in self._withheld:
            self._credit[worker] = self._credit.get(worker, 0) + self._withheld.pop(worker)
        new = asked - self._asked.get(worker, 0)
        if new <= 0:
            return None, []
        self._asked[worker] = asked
        entry = None if last_seq is None else self._batches.get(last_seq)
        return entry, self._grant(worker, new)

    def to_next_segment(
        self,
        worker: str,
        seq: int,
        payload: Sequence[Any],
        service_ns: int,
        *,
        in_slot: bool = True,
    ) -> list[int]:
        """Take a batch back from a worker whose segment is not the last; it gains one credit.

        Parameters
        ----------
        worker, seq
            Name of the worker and number of the batch.
        payload
            Result frames, sent on to the next segment.
        service_ns
            Service time in this segment, ns.
        in_slot
            Whether the batch is still in its slot; else it is in the payload.

        Returns
        -------
        slots
            Slots that became free.
        """
        assigned = self._assigned.get(worker, deque())
        done = next((todo for todo in assigned if todo.seq == seq), None)
        if done is None:
            return []  # it was requeued meanwhile
        assigned.remove(done)
        self._credit[worker] = self._credit.get(worker, 0) + 1
        free, slot = self._free_slots([done]), done.slot
        entry = self._batches.get(seq)
        if entry is not None and entry.worker == worker and entry.slot == slot:
            entry.worker, entry.segment_payload = "", payload
            entry.slot = slot if in_slot else None
            entry.segment += 1
            entry.service_ns += service_ns
            self._waiting[entry.segment].append(seq)
        return free

    def next_for(self, segment: int) -> int | None:
        """Return the next batch for a segment after the first; None if there is none."""
        waiting = self._waiting[segment]
        while waiting:
            seq = waiting.popleft()
            entry = self._batches.get(seq)
            if entry is not None and entry.segment == segment and not entry.worker:
                return seq
        return None

    def next_worker(self, segment: int = 0) -> str | None:
        """Return the worker of a segment with the most credit; None if none has any."""
        if len(self._waiting) == 1:
            return max(self._credit, key=self._credit.__getitem__, default=None)
        asking = [w for w in self._credit if self._segments.get(w, 0) == segment]
        return max(asking, key=self._credit.__getitem__, default=None)

    def is_assigned(self, worker: str, seq: int, token: int) -> bool:
        """Whether a worker has a batch to process that was sent with this token."""
        todo = self._assigned.get(worker, ())
        return any(batch.seq == seq and batch.token == token for batch in todo)

    def is_idle(self, worker: str) -> bool:
        """Whether a worker has no batch assigned."""
        return not self._assigned.get(worker)

    def add(self, entry: InFlightBatch) -> None:
        """Add a new batch."""
        self._batches[entry.batch.seq] = entry
        self._events += entry.batch.events

    def next_requeued(self) -> int | None:
        """Return and remove the next requeued batch; None if there is none."""
        while self._requeued:
            seq = self._requeued.popleft()
            if seq in self._batches:  # else the sink got its result before its worker exited
                return seq
        return None

    def assign(self, seq: int, worker: str, slot: int | None) -> None:
        """Record that a batch was sent to a worker, in a slot or as payload, for one credit."""
        entry = self._batches[seq]
        entry.worker = worker
        since_ns = entry.sent_idle_ns if entry.segment else time.monotonic_ns()
        entry.sent_idle_ns = since_ns if self.is_idle(worker) else 0
        entry.slot = slot
        if slot is not None and slot not in entry.used_slots:
            entry.used_slots.append(slot)
        self._assigned.setdefault(worker, deque()).append(_Assigned(seq, slot, entry.token))
        self._credit[worker] -= 1
        if not self._credit[worker]:
            del self._credit[worker]

    def on_send_failed(self, seq: int, worker: str) -> None:
        """Requeue a batch that could not be sent; withhold the credit of its worker."""
        self._requeue((seq,))
        self._withheld[worker] = self._withheld.get(worker, 0) + self._credit.pop(worker)

    def complete(self, seq: int) -> tuple[EventBatch, list[int]] | None:
        """Remove a committed batch; return it and its free slots, None if it was removed before."""
        entry = self._batches.pop(seq, None)
        if entry is None:
            return None
        self._events -= entry.batch.events
        busy = {todo.slot for batches in self._assigned.values() for todo in batches}
        return entry.batch, [slot for slot in entry.used_slots if slot not in busy]

    def assigned(self, worker: str) -> int:
        """Return the number of batches that a worker has."""
        return len(self.of_worker(worker))

    def of_worker(self, worker: str) -> list[InFlightBatch]:
        """Return the batches that a worker has."""
        return [entry for entry in self._batches.values() if entry.worker == worker]

    def processed_by(self, worker: str) -> InFlightBatch | None:
        """Return the batch that a worker processes: the first that it has; None if it has none."""
        for todo in self._assigned.get(worker, ()):
            entry = self._batches.get(todo.seq)
            if entry is not None and entry.worker == worker:
                return entry
        return None

    def reclaim(self, worker: str) -> list[int]:
        """Requeue the batches of an exited worker and drop its credit; return free slots."""
        self._credit.pop(worker, None)
        self._asked.pop(worker, None)
        self._withheld.pop(worker, None)
        self._requeue([entry.batch.seq for entry in self.of_worker(worker)])
        return self._free_slots(self._assigned.pop(worker, ()))

    def requeue_all(self) -> None:
        """Requeue every batch: a sink that has exited may have held any of them."""
        self._requeued.clear()
        self._requeue(sorted(self._batches))

    def drain(self) -> Iterator[EventBatch]:
        """Remove and yield all batches, in the order of their numbers."""
        self._events = 0
        for seq in sorted(self._batches):
            yield self._batches.pop(seq).batch

    def _grant(self, worker: str, batches: int) -> list[int]:
        """Add to a worker's credit for batches that it has processed; return free slots."""
        self._credit[worker] = self._credit.get(worker, 0) + batches
        assigned = self._assigned.setdefault(worker, deque())
        return self._free_slots([assigned.popleft() for _ in range(min(batches, len(assigned)))])

    def _requeue(self, seqs: Iterable[int]) -> None:
        """Queue batches for the first segment again; they will get other slots."""
        for seq in seqs:
            entry = self._batches[seq]
            entry.worker, entry.slot, entry.segment_payload = "", None, ()
            entry.segment = entry.service_ns = 0
            self._requeued.append(seq)

    def _free_slots(self, done: Iterable[_Assigned]) -> list[int]:
        """Return the slots of processed batches that are complete."""
        return [slot for seq, slot, _ in done if slot is not None and seq not in self._batches]
