"""Ingest's batches: taken from the source, handed to workers, settled when the sink has them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.engine.batch_reader import BatchReader
from sluice.pipeline.engine.model_epochs import ModelEpochs
from sluice.pipeline.engine.workers.process_spec import SLOTS, Times, slot_count, slot_results
from sluice.pipeline.engine.workers.router import Router
from sluice.pipeline.engine.workers.shared_slots import SharedSlots
from sluice.pipeline.graph.segments import edge_schemas
from sluice.pipeline.transport.batch_summary import BatchSummary
from sluice.pipeline.transport.codec import Codec
from sluice.pipeline.transport.run_messages import Credit, Data, Result
from sluice.pipeline.transport.segment_state import unpack_segment_state

from .in_flight import InFlight, InFlightBatch


class Dispatcher:
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

    def __init__(self, plan: RunContext, hub: Router, epochs: ModelEpochs) -> None:
        graph, table = plan.graph, plan.graph.config.graph
        schemas = edge_schemas(graph)
        self._plan, self._hub, self._epochs = plan, hub, epochs
        #: By edge of the chain.
        self._codecs = [Codec(schema) for schema in schemas]
        self._slots = SharedSlots(
            plan.runtime / SLOTS, schemas, table.batch_events,
            slot_results(table, plan.sink.keep), slot_count(plan.graph.config), create=True,
        )  # fmt: skip
        #: Of the chain; and what a batch takes in each, by rung, as its workers measured.
        self._segments = len(schemas) - 1
        self._times: dict[int, Times] = {}
        self.flights = InFlight(table.window, table.batch_events, self._segments)
        self.intake = BatchReader(plan, epochs)
        self._batching = self.intake.batching

    @property
    def settled(self) -> int:
        """Number of the first batch that the sink may lack."""
        oldest = self.flights.oldest
        return self.intake.next_seq if oldest is None else oldest

    @property
    def oldest_epoch(self) -> int:
        """Epoch of the oldest batch in flight; the present one where there is none."""
        return self.flights.oldest_epoch(self._epochs.epoch)

    def welcome(self, worker: str, times: Times, segment: int = 0) -> None:
        """Note that a worker is ready, which segment it runs, and what batches take there."""
        self.flights.station(worker, segment)
        self._times[segment] = times
        if len(self._times) == self._segments:
            self._batching.begin(_added(list(self._times.values())))

    def assign(self, *, paused: bool) -> None:
        """Hand out batches while a worker asks for one and the window has room."""
        for segment in range(self._segments - 1, 0, -1):
            self._assign_segment(segment)
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

    def credit(self, name: str, credit: Credit) -> None:
        """A worker asks for more, and tells of the batch that it has judged."""
        processed = credit.processed_seq if credit.processed_events else None
        flight, slots = self.flights.add_credit(name, credit.batches, processed)
        self._slots.release(slots)
        if flight is not None:
            away_ns = time.monotonic_ns() - flight.sent_idle_ns if flight.sent_idle_ns else None
            took_ns = flight.service_ns + credit.service_ns
            self._batching.on_done(credit.processed_events, took_ns, away_ns, flight.rung)

    def on_segment_result(self, name: str, result: Result, payload: Sequence[memoryview]) -> None:
        """Take what came of a batch in a segment that is not the last."""
        took_ns = unpack_segment_state(payload[0]).took_ns
        lies = result.slot is not None
        free = self.flights.pass_on(name, result.seq, payload, took_ns, lies=lies)
        self._slots.release(free)

    def commit(self, first: int, summaries: list[BatchSummary]) -> bool:
        """Account batches that the sink has, unless they were before; whether any is new."""
        new = False
        for seq, summary in enumerate(summaries, first):
            landed = self.flights.complete(seq)
            if landed is not None:
                batch, slots = landed
                self._slots.release(slots)
                self._plan.account.record_committed(batch, summary)
                new = True
        return new

    def reclaim(self, worker: str) -> None:
        """Take the batches of a worker that is gone."""
        self._slots.release(self.flights.reclaim(worker))

    def fail_all(self, why: str) -> None:
        """Count all batches in flight as failed, and what the source still has."""
        for batch in self.flights.give_up():
            self._plan.account.record_failed(batch, "engine", why)
        self._plan.fail_remaining(why)

    def check_result(self, result: Result, payload: Sequence[memoryview], segment: int) -> None:
        """Refuse what a worker of another host gives, if nobody could go on with it.

        Raises
        ------
        ProtocolError
            If it is no carry with a record batch of the edge behind `segment`.
        """
        flight = self.flights.get(result.seq)
        expected = result.events if flight is None else flight.batch.events
        if segment == self._segments - 1 or result.slot is not None or len(payload) != 2:
            raise ProtocolError(f"batch {result.seq}: expected no such RESULT")
        if result.events != expected:
            raise ProtocolError(
                f"batch {result.seq}: expected {expected} events back, got {result.events}"
            )
        rows = [row for flag in unpack_segment_state(payload[0]).flags for row in flag.rows]
        if rows and not 0 <= min(rows) <= max(rows) < expected:
            raise ProtocolError(f"batch {result.seq}: expected flags of its {expected} events")
        self._codecs[segment + 1].unpack(payload[1], result.events, result.seq)

    def _assign_segment(self, segment: int) -> None:
        """Hand batches to a segment behind the first while its workers ask for them."""
        while (worker := self.flights.asker(segment)) is not None:
            seq = self.flights.next_for(segment)
            if seq is None:
                return
            flight = self.flights[seq]
            slot, payload = flight.slot, flight.segment_payload
            if slot is not None and self._hub.is_remote(worker.encode()):
                batch = self._slots.batch(slot, segment, flight.batch.events, seq)
                slot, payload = None, (payload[0], self._codecs[segment].pack(batch))
            if self._send_batch(flight, worker, slot, payload):
                self.flights.assign(seq, worker, slot)
            else:
                self.flights.on_send_failed(seq, worker)

    def _due_in(self, worker: str) -> float:
        """Return the seconds until the next batch closes, or until more events wait."""
        waiting = self._plan.source.available()
        if not waiting.events:
            return waiting.next_in_s
        idle = self.flights.is_idle(worker)
        return self._batching.due_in(waiting, time.monotonic_ns(), idle=idle)

    def _read(self) -> int | None:
        """Take a batch of the source into flight; None if there is none."""
        taken = self.intake.next(self.flights.crew)
        if taken is None:
            return None
        batch, rung = taken
        self.flights.add(InFlightBatch(batch, self._epochs.epoch, rung))
        return batch.seq

    def _send(self, seq: int, worker: str) -> None:
        """Send a batch to a worker of the first segment."""
        flight = self.flights[seq]
        slot = None if self._hub.is_remote(worker.encode()) else self._slots.take(flight.batch)
        payload = [self._codecs[0].pack(flight.batch)] if slot is None else []
        if self._send_batch(flight, worker, slot, payload):
            self.flights.assign(seq, worker, slot)
            now_ns = time.monotonic_ns()
            self._batching.on_sent(flight.batch.events, now_ns, self.flights.crew)
            return
        self.flights.on_send_failed(seq, worker)
        if slot is not None:
            self._slots.release([slot])

    def _send_batch(
        self, flight: InFlightBatch, worker: str, slot: int | None, payload: Sequence[Any]
    ) -> bool:
        """Send DATA; False if the worker is gone or its queue is full."""
        batch = flight.batch
        data = Data(
            self._plan.account.run, batch.seq, batch.events, slot, flight.rung, flight.epoch,
            t_sent=time.monotonic_ns(),
        )  # fmt: skip
        return self._hub.send(data.to_header(), *payload, to=worker.encode())


def _added(segments: list[Times]) -> Times:
    """Return what a batch takes in all segments together."""
    return [
        [(points[0][0], sum(took_s for _, took_s in points)) for points in zip(*rung, strict=True)]
        for rung in zip(*segments, strict=True)
    ]
