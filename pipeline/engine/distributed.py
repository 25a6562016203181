"""The distributed engine: ingest here, stages in compute workers, the sink in a process of its own.

Ingest owns a batch until the sink has committed it. A worker that dies has its batches given to
another; the sink drops what it has already. At most ``window`` batches are in flight.
"""

from __future__ import annotations

import gc
import time
from typing import Any

import msgspec

from ..batching import Batching
from ..config import seconds
from ..errors import RunError, SluiceError
from ..ledger import Time
from ..transport import Message, Poller, Socket
from ..wire import Codec, Header, Kind, ProtocolError, Summary, unpack_summaries
from . import Plan
from .crew_swaps import CrewSwaps, Ready
from .flights import Flight, Flights
from .pausing import Pause
from .rungs import Rungs
from .sink_link import SinkLink
from .slots import Slots
from .spec import LastWords
from .stall import Stall
from .supervisor import READY_S, SINK, SLOTS, Supervisor, slot_count
from .swaps import Swap

_TICK_S = 0.05
_FINISH_S = 30.0
#: By rung: batch size and seconds that such a batch took.
Times = list[list[tuple[int, float]]]


class DistributedEngine:
    """See `Engine`."""

    def __init__(self, plan: Plan) -> None:
        config = plan.graph.config
        self._plan = plan
        self._account = plan.account
        self._codec = Codec(plan.graph.inputs)
        self._stall = Stall(seconds(config.workers.stall_timeout, "workers.stall_timeout"))
        self._flights = Flights(config.graph.window, config.graph.batch_events)
        budget_s = seconds(config.graph.latency_budget, "graph.latency_budget")
        self._batching = Batching(budget_s, config.graph.batch_events)
        self._swaps = CrewSwaps(plan, self._send_swap)
        self._rungs = Rungs(plan, self._batching)
        self._crew = Supervisor(plan, self._swaps.epochs)
        self._next_seq = plan.resumed.next if plan.resumed else 0
        self._sink = SinkLink(plan.account.run, plan.control)
        self._stall.moved()
        self._failure: SluiceError | None = None

    def start(self) -> None:
        """Start sink and workers; wait until each has said that it is ready."""
        self._hub = Socket(f"ipc://{self._plan.runtime}/hub")
        self._poller = Poller([self._hub])
        graph, table = self._plan.graph, self._plan.graph.config.graph
        try:
            self._slots = Slots(
                self._plan.runtime / SLOTS, graph.inputs, graph.outputs, table.batch_events,
                slot_count(table), create=True,
            )  # fmt: skip
            self._crew.start(self._hub.endpoint)
            self._await_ready()
        except BaseException:
            self._end_processes()
            raise
        self._crew.settle()
        gc.freeze()  # what was loaded stays: the collector need not walk it again
        source = self._plan.source
        if source.socket is not None:
            self._poller = Poller([self._hub, source.socket])

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while late := self._crew.late:
            if time.monotonic() > deadline:
                raise RunError(f"not ready after {READY_S:g} s: {', '.join(late)}")
            if self._plan.control.stopping:
                raise RunError("stopped before the run had started")
            self._serve(_TICK_S)
            for process in self._crew.dead:
                self._serve(_TICK_S)  # its last words may tell more than its exit code
                raise self._failure or RunError(process.death)

    def run(self) -> None:
        """Feed workers until the source is done and the sink has everything."""
        try:
            self._feed()
        except SluiceError as error:
            self._failure = self._failure or error
        finally:
            self._account.ledger.enter(self._time(), time.monotonic_ns())
            self._give_up_flights()
        if self._failure is not None:
            raise self._failure

    def _feed(self) -> None:
        source, control, ledger = self._plan.source, self._plan.control, self._account.ledger
        self._stall.moved()
        stopped, pause = False, Pause(self._plan)
        while self._failure is None:
            self._supervise()
            oldest = self._flights.oldest_epoch(self._swaps.epochs.epoch)
            self._swaps.step(self._crew.workers, oldest, self._next_seq)
            self._rungs.tick()
            self._dispatch(paused=pause.holds())
            self._account.lose(source.losses(), "source")
            ledger.enter(self._time(), time.monotonic_ns())
            if source.exhausted:
                if not self._flights:
                    break
                self._sink.hurry(self._hub, self._crew[SINK])
            if control.aborting:
                raise RunError(f"stopped a second time with {len(self._flights)} batches in flight")
            if control.stopping and not stopped:
                source.stop()
                stopped = True
            self._serve(self._patience())
            self._check_stall()

    def finish(self) -> dict[str, Any]:
        """Give the sink the end-of-run record, end every process."""
        if self._failure is None:
            try:
                self._end_run()
            except SluiceError as error:
                self._failure = self._failure or error
        self._end_processes()
        if self._failure is not None and self._sink.written is None:
            raise self._failure
        return self._sink.written or {}

    def _end_run(self) -> None:
        """Exchange end-of-run records with the sink, also with one that dies over it."""
        eor = msgspec.json.encode(self._plan.eor())
        deadline = time.monotonic() + _FINISH_S
        while self._sink.written is None and self._failure is None:
            sink = self._crew[SINK]
            if self._sink.end(self._hub, sink, eor) or self._sink.waits_for_room:
                deadline = time.monotonic() + _FINISH_S
            self._serve(_TICK_S)
            if self._sink.written is None and sink.exit_code is not None:
                self._serve(_TICK_S)  # its last words may tell more than its exit code
                if self._sink.written is None:
                    self._supervise()
            elif self._plan.control.aborting and self._sink.waits_for_room:
                raise RunError("stopped a second time while the sink has no room")
            elif sink.ready and time.monotonic() > deadline:
                raise RunError("sink: no answer at the end of the run")

    def _supervise(self) -> None:
        """Take the batches of the dead back and start the dead again."""
        for process in self._crew.dead:
            self._serve(0)
            if self._failure is not None:
                return
            self._slots.give_back(self._flights.bereave(process.name))
            self._swaps.mourn(process.name)
            self._crew.mourn(process)
        oldest = self._flights.oldest
        self._crew.revive(self._next_seq if oldest is None else oldest)

    def _end_processes(self) -> None:
        self._crew.end(self._hub, failed=self._failure is not None)
        self._hub.close()

    def _dispatch(self, *, paused: bool) -> None:
        """Hand out batches while a worker asks for one and the window has room."""
        if self._sink.recall and self._flights.quiet:
            self._sink.recall = False
            self._flights.recall()
        if self._sink.recall or not self._crew.working:
            return
        while self._failure is None and (worker := self._flights.asker()) is not None:
            seq = self._flights.orphan()
            if seq is None and not (paused or self._flights.full) and self._due_in(worker) <= 0:
                seq = self._read()
            if seq is None:
                return
            self._send(seq, worker)

    def _due_in(self, worker: str) -> float:
        """Return the seconds until the next batch closes, or until more events wait."""
        waiting = self._plan.source.waiting()
        if not waiting.events:
            return waiting.more_in_s
        idle = self._flights.is_idle(worker)
        return self._batching.due_in(waiting, time.monotonic_ns(), idle=idle)

    def _read(self) -> int | None:
        """Take a batch of the source into flight; None if there is none."""
        source = self._plan.source
        waiting = source.waiting()
        batch = source.read(self._plan.graph.config.graph.batch_events)
        if batch is None:
            return None
        rung = self._plan.dictated_rung()
        if rung is None:
            rung = self._rungs.choose(waiting, batch.events, self._flights.crew)
        batch = self._plan.number(batch, self._next_seq)
        self._next_seq += 1
        self._account.offer(batch)
        self._swaps.epochs.began(batch)
        self._flights.add(Flight(batch, self._swaps.epochs.epoch, rung))
        return batch.seq

    def _send(self, seq: int, worker: str) -> None:
        flight = self._flights[seq]
        slot = self._slots.take(flight.batch)
        place = 0 if slot is None else slot + 1
        events, now = flight.batch.events, time.monotonic_ns()
        header = Header(Kind.DATA, self._account.run, seq=seq, first=place, events=events,
                        t_sent=now, aux=flight.rung | flight.epoch << 8)  # fmt: skip
        payload = [self._codec.pack(flight.batch)] if slot is None else []
        if self._hub.send(header, *payload, to=worker.encode()):
            self._flights.give(seq, worker, slot)
            self._batching.sent(events, now, self._flights.crew)
            return
        self._flights.refuse(seq, worker)
        if slot is not None:
            self._slots.give_back([slot])

    def _send_swap(self, worker: str, swap: Swap) -> None:
        control = Header(Kind.CONTROL, self._account.run)
        self._hub.send(control, msgspec.json.encode(swap), to=worker.encode())

    def _give_up_flights(self) -> None:
        self._swaps.epochs.close()
        why = self._failure.message if self._failure else "the engine broke off"
        for batch in self._flights.give_up():
            self._account.fail(batch, "engine", why)
        self._plan.give_up_source(why)

    def _serve(self, timeout_s: float) -> None:
        """Wait for messages, at most `timeout_s`, and take all that are there."""
        ready = self._poller.poll(timeout_s)
        source = self._plan.source
        if source.socket is not None and source.socket in ready:
            source.receive()
        while self._hub in ready:
            try:
                message = self._hub.receive()
            except ProtocolError:
                self._account.protocol_errors += 1
                continue
            if message is None:
                return
            self._hear(message)

    def _hear(self, message: Message) -> None:
        peer, header, payload = message
        name = peer.decode(errors="replace")
        if name not in self._crew:
            self._account.protocol_errors += 1
        elif header.kind == Kind.ACK:
            self._commit(header.seq, unpack_summaries(payload[0]))
        elif header.kind == Kind.CREDIT:
            self._credit(name, header)
        elif header.kind == Kind.HELLO:
            self._crew.welcome(name)
            if name == SINK:
                self._sink.welcome()
            elif payload:
                self._batching.begin(msgspec.json.decode(payload[0], type=Times))
            if self._crew[name].role == "compute":
                self._swaps.welcome(name, self._crew[name].spec.epoch)
        elif header.kind == Kind.READY:
            self._swaps.hear(name, msgspec.json.decode(payload[0], type=Ready))
        elif header.kind == Kind.ERROR:
            last_words = msgspec.json.decode(payload[0], type=LastWords)
            self._failure = self._failure or last_words.error()
        elif header.kind in (Kind.EOR, Kind.FULL):
            self._sink.hear(header, payload)

    def _credit(self, name: str, header: Header) -> None:
        """A worker asks for more, and tells of the batch that it has judged."""
        judged = header.seq if header.events else None
        flight, slots = self._flights.ask(name, header.aux, judged)
        self._slots.give_back(slots)
        if flight is not None:
            away_ns = time.monotonic_ns() - flight.alone_ns if flight.alone_ns else None
            self._batching.done(header.events, header.first, away_ns, flight.rung)

    def _commit(self, first: int, summaries: list[Summary]) -> None:
        """Account batches that the sink has; what was accounted before is passed over."""
        for seq, summary in enumerate(summaries, first):
            landed = self._flights.land(seq)
            if landed is not None:
                batch, slots = landed
                self._slots.give_back(slots)
                self._account.commit(batch, summary)
                self._stall.moved()

    def _time(self) -> Time:
        if self._plan.control.paused:
            return Time.PAUSED
        if not self._crew.working:
            return Time.DOWN
        return Time.BUSY if self._flights.blocked else Time.LIVE

    def _patience(self) -> float:
        """Return how long to wait for a message: until the source may have a batch."""
        worker = self._flights.asker()
        if worker is None or self._flights.full or self._plan.control.paused:
            return _TICK_S
        return min(_TICK_S, self._due_in(worker))

    def _check_stall(self) -> None:
        if not self._flights or not self._crew.working or self._sink.waits_for_room:
            self._stall.moved()
        self._stall.check(self._flights.workers)
