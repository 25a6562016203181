"""Ingest's batches: taken from the source, handed to workers, settled when the sink has them."""

from __future__ import annotations

import time

from ..batching import Batching
from ..config import seconds
from ..wire import Codec, Header, Kind, Summary
from . import Plan
from .epochs import Epochs
from .flights import Flight, Flights
from .hub import Hub
from .rungs import Rungs
from .slots import Slots
from .spec import SLOTS, slot_count


class Dispatch:
    """Hands out batches and takes them back.

    Parameters
    ----------
    plan
        The run.
    hub
        The way to the workers.
    epochs
        Which models judge.
    """

    def __init__(self, plan: Plan, hub: Hub, epochs: Epochs) -> None:
        graph, table = plan.graph, plan.graph.config.graph
        self._plan, self._hub, self._epochs = plan, hub, epochs
        self._codec = Codec(graph.inputs)
        self._slots = Slots(
            plan.runtime / SLOTS, graph.inputs, graph.outputs, table.batch_events,
            slot_count(table), create=True,
        )  # fmt: skip
        self.flights = Flights(table.window, table.batch_events)
        budget_s = seconds(table.latency_budget, "graph.latency_budget")
        self.batching = Batching(budget_s, table.batch_events)
        self.rungs = Rungs(plan, self.batching)
        #: Number of the next batch.
        self.next_seq = plan.resumed.next if plan.resumed else 0

    @property
    def settled(self) -> int:
        """Number of the first batch that the sink may lack."""
        oldest = self.flights.oldest
        return self.next_seq if oldest is None else oldest

    @property
    def oldest_epoch(self) -> int:
        """Epoch of the oldest batch in flight; the present one where there is none."""
        return self.flights.oldest_epoch(self._epochs.epoch)

    def hand_out(self, *, paused: bool) -> None:
        """Hand out batches while a worker asks for one and the window has room."""
        while (worker := self.flights.asker()) is not None:
            seq = self.flights.orphan()
            if seq is None and not (paused or self.flights.full) and self._due_in(worker) <= 0:
                seq = self._read()
            if seq is None:
                return
            self._send(seq, worker)

    def due_in(self) -> float | None:
        """Return the seconds until a batch may go out, or None where only others can tell."""
        worker = self.flights.asker()
        return None if worker is None or self.flights.full else self._due_in(worker)

    def credit(self, name: str, header: Header) -> None:
        """A worker asks for more, and tells of the batch that it has judged."""
        judged = header.seq if header.events else None
        flight, slots = self.flights.ask(name, header.aux, judged)
        self._slots.give_back(slots)
        if flight is not None:
            away_ns = time.monotonic_ns() - flight.alone_ns if flight.alone_ns else None
            self.batching.done(header.events, header.first, away_ns, flight.rung)

    def commit(self, first: int, summaries: list[Summary]) -> bool:
        """Account batches that the sink has, unless they were before; whether any is new."""
        new = False
        for seq, summary in enumerate(summaries, first):
            landed = self.flights.land(seq)
            if landed is not None:
                batch, slots = landed
                self._slots.give_back(slots)
                self._plan.account.commit(batch, summary)
                new = True
        return new

    def bereave(self, worker: str) -> None:
        """Take the batches of a worker that is gone."""
        self._slots.give_back(self.flights.bereave(worker))

    def give_up(self, why: str) -> None:
        """Count all batches in flight as failed, and what the source still has."""
        for batch in self.flights.give_up():
            self._plan.account.fail(batch, "engine", why)
        self._plan.give_up_source(why)

    def _due_in(self, worker: str) -> float:
        """Return the seconds until the next batch closes, or until more events wait."""
        waiting = self._plan.source.waiting()
        if not waiting.events:
            return waiting.more_in_s
        idle = self.flights.is_idle(worker)
        return self.batching.due_in(waiting, time.monotonic_ns(), idle=idle)

    def _read(self) -> int | None:
        """Take a batch of the source into flight; None if there is none."""
        source = self._plan.source
        waiting = source.waiting()
        batch = source.read(self._plan.graph.config.graph.batch_events)
        if batch is None:
            return None
        rung = self._plan.dictated_rung()
        if rung is None:
            rung = self.rungs.choose(waiting, batch.events, self.flights.crew)
        batch = self._plan.number(batch, self.next_seq)
        self.next_seq += 1
        self._plan.account.offer(batch)
        self._epochs.began(batch)
        self.flights.add(Flight(batch, self._epochs.epoch, rung))
        return batch.seq

    def _send(self, seq: int, worker: str) -> None:
        flight, peer = self.flights[seq], worker.encode()
        slot = None if self._hub.is_far(peer) else self._slots.take(flight.batch)
        place = 0 if slot is None else slot + 1
        events, now = flight.batch.events, time.monotonic_ns()
        header = Header(Kind.DATA, self._plan.account.run, seq=seq, first=place, events=events,
                        t_sent=now, aux=flight.rung | flight.epoch << 8)  # fmt: skip
        payload = [self._codec.pack(flight.batch)] if slot is None else []
        if self._hub.send(header, *payload, to=peer):
            self.flights.give(seq, worker, slot)
            self.batching.sent(events, now, self.flights.crew)
            return
        self.flights.refuse(seq, worker)
        if slot is not None:
            self._slots.give_back([slot])
