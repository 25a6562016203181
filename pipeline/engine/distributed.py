"""The distributed engine: ingest here, stages in compute workers, the sink in a process of its own.

Ingest owns a batch until the sink has committed it. A worker that dies has its batches given to
another; the sink drops what it has already. At most ``window`` batches are in flight.
"""

from __future__ import annotations

import gc
import os
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..batch import EventBatch
from ..config import seconds
from ..errors import RunError, SluiceError
from ..ledger import Time
from ..metrics import MeterBlock
from ..transport import Message, Poller, Socket
from ..wire import Codec, Header, Kind, ProtocolError, unpack_summary
from . import Plan
from .processes import Process
from .spec import LastWords, Spec, share_cores

_TICK_S = 0.05
_READY_S = 120.0
_FINISH_S = 30.0
#: How long processes may take to end once the run has failed.
_BROKEN_S = 2.0
_SINK = "sink"


@dataclass(slots=True)
class _Flight:
    """A batch between ingest and sink."""

    batch: EventBatch
    frame: Any
    worker: str


class DistributedEngine:
    """See `Engine`."""

    def __init__(self, plan: Plan) -> None:
        config = plan.graph.config
        self._plan = plan
        self._account = plan.account
        self._window = config.graph.window
        self._codec = Codec(plan.graph.inputs)
        self._stall_s = seconds(config.workers.stall_timeout, "workers.stall_timeout")
        self._cores = os.sched_getaffinity(0)
        self._crew, self._others = share_cores(
            self._cores, config.workers.compute, live=plan.source.socket is not None
        )
        self._flights: dict[int, _Flight] = {}
        self._orphans: deque[int] = deque()
        self._credit: dict[str, int] = {}
        self._processes: dict[str, Process] = {}
        self._restarts_left = config.workers.restarts
        self._next_seq = 0
        self._moved_at = time.monotonic()
        self._failure: SluiceError | None = None
        self._written: dict[str, Any] | None = None

    def start(self) -> None:
        """Start sink and workers; wait until each has said that it is ready."""
        self._hub = Socket(f"ipc://{self._plan.runtime}/hub")
        self._poller = Poller([self._hub])
        try:
            self._spawn("commit", _SINK)
            for index in range(self._plan.graph.config.workers.compute):
                self._spawn("compute", f"compute-{index}")
            deadline = time.monotonic() + _READY_S
            while not all(process.ready for process in self._processes.values()):
                if time.monotonic() > deadline:
                    late = [p.name for p in self._processes.values() if not p.ready]
                    raise RunError(f"not ready after {_READY_S:g} s: {', '.join(late)}")
                if self._plan.control.stopping:
                    raise RunError("stopped before the run had started")
                self._serve(_TICK_S)
                for process in self._processes.values():
                    if process.exit_code is not None:
                        self._serve(_TICK_S)  # its last words may tell more than its exit code
                        raise self._failure or RunError(process.death)
        except BaseException:
            self._end_processes()
            raise
        os.sched_setaffinity(0, self._others.own)
        gc.freeze()  # what was loaded stays: the collector need not walk it again
        source = self._plan.source
        if source.socket is not None:
            self._poller = Poller([self._hub, source.socket])

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
        self._moved_at = time.monotonic()
        stopped = False
        while self._failure is None:
            self._supervise()
            self._dispatch()
            ledger.enter(self._time(), time.monotonic_ns())
            if source.exhausted and not self._flights:
                break
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
            eor = msgspec.json.encode(self._plan.eor())
            self._hub.send(Header(Kind.EOR, self._account.run), eor, to=_SINK.encode())
            deadline = time.monotonic() + _FINISH_S
            while self._written is None and self._failure is None:
                self._serve(_TICK_S)
                gone = self._processes[_SINK].exit_code is not None
                if self._written is None and (gone or time.monotonic() > deadline):
                    self._serve(_TICK_S)
                    self._failure = self._failure or RunError(
                        "sink: no answer at the end of the run"
                    )
        self._end_processes()
        if self._failure is not None and self._written is None:
            raise self._failure
        return self._written or {}

    def _spawn(self, role: str, name: str) -> None:
        plan = self._plan
        life = self._account.restarts.get(name, 0)
        cores = self._crew[int(name.rpartition("-")[2])] if role == "compute" else self._others
        meters = plan.runtime / f"{name}.{life}.meters"
        spec = Spec(
            name, plan.graph.config, tuple(plan.source.schema), self._hub.endpoint,
            f"ipc://{plan.runtime}/outlet", str(meters), plan.bor, os.getpid(), cores,
        )  # fmt: skip
        self._processes[name] = Process(role, spec, plan.runtime)

    def _supervise(self) -> None:
        """Restart dead workers and take their batches back; a dead sink ends the run."""
        for process in list(self._processes.values()):
            if process.exit_code is None:
                continue
            self._serve(0)
            if process.role != "compute" or self._restarts_left == 0 or self._failure:
                more = "" if process.role != "compute" else "; no restarts left"
                self._failure = self._failure or RunError(process.death + more)
                return
            self._restarts_left -= 1
            restarts = self._account.restarts
            restarts[process.name] = restarts.get(process.name, 0) + 1
            self._credit.pop(process.name, None)
            self._orphans.extend(
                seq for seq, flight in self._flights.items() if flight.worker == process.name
            )
            self._spawn("compute", process.name)

    def _end_processes(self) -> None:
        os.sched_setaffinity(0, self._cores)
        for name in self._processes:
            self._hub.send(Header(Kind.STOP), to=name.encode())
        deadline = time.monotonic() + (_FINISH_S if self._failure is None else _BROKEN_S)
        for process in self._processes.values():
            process.wait(max(0.0, deadline - time.monotonic()) if process.ready else 0.0)
            process.end()
        self._hub.close()

    def _dispatch(self) -> None:
        """Hand out batches while a worker asks for one and the window has room."""
        while self._credit and self._failure is None:
            worker = max(self._credit, key=self._credit.__getitem__)
            if self._orphans:
                seq = self._orphans.popleft()
                if seq in self._flights:  # its result may have reached the sink before the death
                    self._send(seq, worker)
            elif len(self._flights) >= self._window or not self._read(worker):
                return

    def _read(self, worker: str) -> bool:
        """Take a batch of the source into flight; False if there is none."""
        idle = all(flight.worker != worker for flight in self._flights.values())
        source = self._plan.source
        batch = source.read(self._plan.graph.config.graph.batch_events, hungry=idle)
        self._account.lose(source.losses(), "source")
        if batch is None:
            return False
        batch = self._plan.number(batch, self._next_seq)
        self._next_seq += 1
        self._account.offer(batch)
        self._flights[batch.seq] = _Flight(batch, self._codec.pack(batch), worker)
        self._send(batch.seq, worker)
        return True

    def _send(self, seq: int, worker: str) -> None:
        flight = self._flights[seq]
        flight.worker = worker
        header = Header(Kind.DATA, self._account.run, seq=seq, events=flight.batch.events,
                        t_sent=time.monotonic_ns())  # fmt: skip
        if not self._hub.send(header, flight.frame, to=worker.encode()):
            self._orphans.append(seq)
            del self._credit[worker]
            return
        self._credit[worker] -= 1
        if not self._credit[worker]:
            del self._credit[worker]

    def _give_up_flights(self) -> None:
        why = self._failure.message if self._failure else "the engine broke off"
        for seq in sorted(self._flights):
            self._account.fail(self._flights.pop(seq).batch, "engine", why)
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
        if name not in self._processes:
            self._account.protocol_errors += 1
        elif header.kind == Kind.ACK:
            flight = self._flights.pop(header.seq, None)
            if flight is not None:
                self._account.commit(flight.batch, unpack_summary(payload[0]))
                self._moved_at = time.monotonic()
        elif header.kind == Kind.CREDIT:
            self._credit[name] = self._credit.get(name, 0) + header.aux
        elif header.kind == Kind.HELLO:
            self._processes[name].ready = True
            if self._processes[name].role == "compute":
                path = Path(self._processes[name].spec.meters)
                names = self._plan.graph.meter_names()
                self._account.blocks.append(MeterBlock(*names, path, create=False))
        elif header.kind == Kind.ERROR:
            last_words = msgspec.json.decode(payload[0], type=LastWords)
            self._failure = self._failure or last_words.error()
        elif header.kind == Kind.EOR:
            self._written = msgspec.json.decode(payload[0])

    def _time(self) -> Time:
        if not any(p.ready for p in self._processes.values() if p.role == "compute"):
            return Time.DOWN
        return Time.BUSY if len(self._flights) >= self._window or not self._credit else Time.LIVE

    def _patience(self) -> float:
        """Return how long to wait for a message: until the source may have a batch."""
        if not self._credit or len(self._flights) >= self._window:
            return _TICK_S
        return min(_TICK_S, self._plan.source.due_in())

    def _check_stall(self) -> None:
        if not self._flights:
            self._moved_at = time.monotonic()
        elif time.monotonic() - self._moved_at > self._stall_s:
            waiting = sorted({flight.worker for flight in self._flights.values()})
            self._failure = RunError(
                f"no batch came back for {self._stall_s:g} s; waiting for {', '.join(waiting)}",
                hint="raise workers.stall_timeout if a batch may take that long",
            )
