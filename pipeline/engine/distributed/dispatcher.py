"""Ingest's batches: read from the source, sent to workers, complete when the sink has them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.engine.batch_reader import BatchReader
from sluice.pipeline.engine.model_epochs import ModelEpochs
from sluice.pipeline.engine.workers.batch_token import Assignment, TokenKey
from sluice.pipeline.engine.workers.process_spec import (
    SLOTS_FILE,
    ServiceTimes,
    slot_count,
    slot_results,
)
from sluice.pipeline.engine.workers.shared_slots import SharedSlots
from sluice.pipeline.graph.segments import edge_schemas
from sluice.pipeline.transport.batch_summary import BatchSummary
from sluice.pipeline.transport.codec import Codec
from sluice.pipeline.transport.run_messages import Credit, Data, Result
from sluice.pipeline.transport.segment_state import unpack_segment_state

from .in_flight import InFlight
from .in_flight_batch import InFlightBatch
from .sessions import Sessions

#: Workers that exit with the same batch before the next one searches for the event that is the
#: cause: one may have been killed by chance.
_EXITS_BEFORE_SEARCH = 2
#: Remote workers that exit while they process the same batch before it fails without being
#: processed: they cannot search, and several may have lost their connection.
_REMOTE_EXITS_BEFORE_FAILURE = 5


class Dispatcher:
    """Sends batches to workers and tracks them until they are committed.

    Parameters
    ----------
    context
        The run.
    sessions
        Sends to the workers.
    key
        Key of the tokens of batches.
    epochs
        Model epochs of the run.
    """

    def __init__(
        self, context: RunContext, sessions: Sessions, key: TokenKey, epochs: ModelEpochs
    ) -> None:
        graph, table = context.graph, context.graph.config.graph
        schemas = edge_schemas(graph)
        self._context, self._sessions, self._epochs = context, sessions, epochs
        self._key = key
        #: Codec of each edge of the chain.
        self._codecs = [Codec(schema) for schema in schemas]
        self._slots = SharedSlots(
            context.run_directory / SLOTS_FILE, schemas, table.batch_events,
            slot_results(table, context.sink.keep), slot_count(context.graph.config), create=True,
        )  # fmt: skip
        #: Number of segments of the chain, and the service times that workers of each measured.
        self._segments = len(schemas) - 1
        self._service_times: dict[int, ServiceTimes] = {}
        self.in_flight = InFlight(table.window, table.batch_events, self._segments)
        self.reader = BatchReader(context, epochs)
        self._batching = self.reader.batching

    @property
    def first_uncommitted(self) -> int:
        """Number of the first batch that the sink may not have committed."""
        oldest = self.in_flight.oldest
        return self.reader.next_seq if oldest is None else oldest

    @property
    def oldest_epoch(self) -> int:
        """Smallest epoch of the batches in flight; the current one if there is none."""
        return self.in_flight.oldest_epoch(self._epochs.epoch)

    def on_worker_ready(self, worker: str, times: ServiceTimes, segment: int = 0) -> None:
        """Record that a worker is ready, its segment and its service times."""
        self.in_flight.assign_segment(worker, segment)
        self._service_times[segment] = times
        if len(self._service_times) == self._segments:
            self._batching.set_service_times(_sum_service_times(list(self._service_times.values())))

    def assign(self, *, paused: bool) -> None:
        """Send batches while a worker has credit and the window is not full."""
        for segment in range(self._segments - 1, 0, -1):
            self._assign_segment(segment)
        while (worker := self.in_flight.next_worker()) is not None:
            seq = self.in_flight.next_requeued()
            if seq is None and not (paused or self.in_flight.full) and self._due_in(worker) <= 0:
                seq = self._read()
            if seq is None:
                return
            self._send(seq, worker)

    def due_in(self) -> float | None:
        """Return the time until a batch may be sent, s; None if it waits for credit or a commit."""
        worker = self.in_flight.next_worker()
        return None if worker is None or self.in_flight.full else self._due_in(worker)

    def on_credit(self, name: str, credit: Credit) -> None:
        """Add to the credit of a worker and record the batches that it has processed."""
        processed = credit.processed_seq if credit.processed_events else None
        entry, slots = self.in_flight.add_credit(name, credit.batches, processed)
        self._slots.release(slots)
        if entry is not None:
            round_trip_ns = time.monotonic_ns() - entry.sent_idle_ns if entry.sent_idle_ns else None
            took_ns = entry.service_ns + credit.service_ns
            self._batching.on_done(credit.processed_events, took_ns, round_trip_ns, entry.rung)

    def verify_result(self, name: str, result: Result) -> None:
        """Check that a RESULT of a worker whose segment is not the last answers its batch.

        Raises
        ------
        ProtocolError
            If its token is not that of a batch which this worker has to process now.
        """
        if not self.in_flight.is_assigned(name, result.seq, result.token):
            raise ProtocolError(f"batch {result.seq}: {name!r} does not have a batch of that token")

    def take_result(self, name: str, result: Result, payload: Sequence[memoryview]) -> None:
        """Take a batch back from a worker whose segment is not the last; its RESULT is verified."""
        took_ns = unpack_segment_state(payload[0]).took_ns
        in_slot = result.slot is not None
        free = self.in_flight.to_next_segment(name, result.seq, payload, took_ns, in_slot=in_slot)
        self._slots.release(free)

    def commit(self, first: int, summaries: list[BatchSummary]) -> bool:
        """Account batches that the sink has committed; return whether any is new."""
        new = False
        for seq, summary in enumerate(summaries, first):
            completed = self.in_flight.complete(seq)
            if completed is not None:
                batch, slots = completed
                self._slots.release(slots)
                self._context.accounting.record_committed(batch, summary)
                new = True
        return new

    def is_suspect(self, worker: str) -> bool:
        """Whether a worker has a batch with which another one has exited before."""
        return any(entry.exits for entry in self.in_flight.of_worker(worker))

    def reclaim(self, worker: str) -> None:
        """Requeue the batches of a worker that is gone."""
        for entry in self.in_flight.of_worker(worker):
            entry.exits += 1
        entry_processed = self.in_flight.processed_by(worker)
        if entry_processed is not None and self._sessions.is_remote(worker):
            entry_processed.remote_exits += 1
        self._slots.release(self.in_flight.reclaim(worker))

    def fail_all(self, why: str) -> None:
        """Count the events in flight and in the source as failed, for the reason `why`."""
        for batch in self.in_flight.drain():
            self._context.accounting.record_failed(batch, "engine", why)
        self._context.fail_remaining(why)

    def check_result(self, result: Result, payload: Sequence[memoryview], segment: int) -> None:
        """Check the content of a verified RESULT of a remote worker, whose segment is not the last.

        Raises
        ------
        ProtocolError
            If it is not a segment state with a record batch of the edge after `segment`.
        """
        entry = self.in_flight.get(result.seq)  # the sink may have committed it meanwhile
        expected = result.events if entry is None else entry.batch.events
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
        """Send batches to a segment after the first while its workers have credit."""
        while (worker := self.in_flight.next_worker(segment)) is not None:
            seq = self.in_flight.next_for(segment)
            if seq is None:
                return
            entry = self.in_flight[seq]
            slot, payload = entry.slot, entry.segment_payload
            if slot is not None and self._sessions.is_remote(worker):
                batch = self._slots.batch(slot, segment, entry.batch.events, seq)
                slot, payload = None, (payload[0], self._codecs[segment].pack(batch))
            if self._send_batch(entry, worker, slot, payload):
                self.in_flight.assign(seq, worker, slot)
            else:
                self.in_flight.on_send_failed(seq, worker)

    def _due_in(self, worker: str) -> float:
        """Return the time until the next batch closes, or until events wait, s."""
        waiting = self._context.source.available()
        if not waiting.events:
            return waiting.next_in_s
        idle = self.in_flight.is_idle(worker)
        return self._batching.due_in(waiting, time.monotonic_ns(), idle=idle)

    def _read(self) -> int | None:
        """Read a batch and return its number; None if no event waits."""
        taken = self.reader.next(self.in_flight.worker_count)
        if taken is None:
            return None
        batch, rung = taken
        self.in_flight.add(InFlightBatch(batch=batch, epoch=self._epochs.epoch, rung=rung))
        return batch.seq

    def _send(self, seq: int, worker: str) -> None:
        """Send a batch to a worker of the first segment."""
        entry = self.in_flight[seq]
        slot = None if self._sessions.is_remote(worker) else self._slots.take(entry.batch)
        payload = [self._codecs[0].pack(entry.batch)] if slot is None else []
        if self._send_batch(entry, worker, slot, payload):
            self.in_flight.assign(seq, worker, slot)
            now_ns = time.monotonic_ns()
            self._batching.on_sent(entry.batch.events, now_ns, self.in_flight.worker_count)
            return
        self.in_flight.on_send_failed(seq, worker)
        if slot is not None:
            self._slots.release([slot])

    def _send_batch(
        self, entry: InFlightBatch, worker: str, slot: int | None, payload: Sequence[Any]
    ) -> bool:
        """Send DATA; False if the worker has disconnected or its queue is full."""
        seq, events = entry.batch.seq, entry.batch.events
        session = self._sessions[worker].number
        entry.token = self._key.token(
            Assignment(seq, events, session, entry.epoch, entry.segment, entry.rung)
        )
        if self._sessions.is_remote(worker):
            search = entry.remote_exits >= _REMOTE_EXITS_BEFORE_FAILURE
        else:
            search = entry.exits >= _EXITS_BEFORE_SEARCH
        data = Data(
            seq, events, slot, entry.rung, entry.epoch, entry.token, time.monotonic_ns(), search
        )
        return self._sessions.send(worker, data.to_header(), *payload)


def _sum_service_times(segments: list[ServiceTimes]) -> ServiceTimes:
    """Return the service times of all segments together, by rung and batch size."""
    return [
        [(points[0][0], sum(took_s for _, took_s in points)) for points in zip(*rung, strict=True)]
        for rung in zip(*segments, strict=True)
    ]
