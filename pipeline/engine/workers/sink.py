"""The sink's process: puts results in order, commits each once, acknowledges to ingest."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from sluice.pipeline.config.plugins import build
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ProtocolError, RunError
from sluice.pipeline.engine.group_commit import GroupCommit
from sluice.pipeline.engine.model_swap import Swap, SwapReply
from sluice.pipeline.engine.storage_retry import DISK_FULL_ERRNOS, RETRY_S, StorageRetry
from sluice.pipeline.graph.graph import Graph, build_graph
from sluice.pipeline.journal.batch_record import record_epoch
from sluice.pipeline.journal.commit import BatchResult, CommitRecord
from sluice.pipeline.sinks.base import Sink
from sluice.pipeline.transport.batch_summary import merge_acks, unpack_summary
from sluice.pipeline.transport.codec import Codec
from sluice.pipeline.transport.curve_keys import load_server_auth
from sluice.pipeline.transport.poller import Poller
from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.run_messages import CommitAck, DiskFull, Result, SinkHello
from sluice.pipeline.transport.socket import Socket

from .heartbeat import Heartbeat
from .process_spec import ORPHAN_CHECK_S, ProcessSpec, run_process
from .router import Router

#: Of so many commits ingest is told at once, while more is to be done.
_SETTLED = 4


def start(path: str) -> int:
    """Play this role by the spec file at `path`; return the exit code."""
    return run_process(commit, path)


def commit(spec: ProcessSpec, hub: Socket) -> None:
    """Open the sink, then commit results in the order of their sequence numbers until EOR."""
    sink: Sink = build("sink", spec.config.sink, spec.config.origin)
    graph = build_graph(spec.config, spec.schema, sink.columns)
    commits = _open(sink, graph, spec, hub)
    desk = SinkWorker(spec, hub, sink, graph, commits)
    try:
        desk.serve()
    finally:
        desk.close()
    hub.send(Header(Kind.EOR), msgspec.json.encode(sink.describe()))


def _open(sink: Sink, graph: Graph, spec: ProcessSpec, hub: Socket) -> list[CommitRecord]:
    """Open the sink; one that goes on waits for room, a new run is refused at once without."""
    room = StorageRetry(sink.disk_full_timeout_s)
    while not spec.orphaned():
        try:
            return sink.open(graph.outputs, spec.bor, spec.since)
        except OSError as error:
            if spec.since is None or error.errno not in DISK_FULL_ERRNOS:
                raise RunError(f"cannot open: {error}") from error
            if room.on_error(error, time.monotonic()):  # HELLO will say that there is room again
                run = int(spec.bor.get("run", 0))
                hub.send(DiskFull(True, run).to_header(), msgspec.json.encode(str(error)))
        time.sleep(RETRY_S)
    raise RunError("cannot open: the engine is gone")


class SinkWorker:
    """Takes results as they come and hands them to the committer in order."""

    def __init__(
        self, spec: ProcessSpec, hub: Socket, sink: Sink, graph: Graph, commits: list[CommitRecord]
    ) -> None:
        self._spec = spec
        self._hub = hub
        self._sink = sink
        self._run = int(spec.bor.get("run", 0))
        self._codec = Codec(graph.outputs)
        self._slots = spec.open_slots(graph, sink.keep)
        last = commits[-1] if commits else CommitRecord(next=spec.since or 0)
        limits = spec.config.graph
        self._committer = GroupCommit(sink, graph.outputs, limits, last, self._acknowledge)
        for swap in spec.begun:
            self._committer.register_swap(swap.for_journal())
        self._room = StorageRetry(sink.disk_full_timeout_s)
        self._held: dict[int, BatchResult] = {}
        self._eor: dict[str, Any] | None = None
        self._outlet = open_result_socket(spec)
        self._beat = Heartbeat(hub)
        #: Commits that ingest has not heard of: first batch, how many, and summaries.
        self._settled: list[tuple[int, int, bytes]] = []
        for record in commits:  # their ACKs may have died with the sink's earlier life
            self._acknowledge(record.first, len(record.judged), record.payload())
        self._tell()

    def serve(self) -> None:
        """Commit until EOR or STOP."""
        poller = Poller((self._hub, *self._outlet.sockets))
        self._hub.send(SinkHello(self._committer.next, self._run).to_header())
        going = True
        while going and self._eor is None:
            ready = poller.poll(self._patience())
            self._beat.send_if_due()
            if not ready and self._spec.orphaned():
                return
            if any(socket in ready for socket in self._outlet.sockets):
                self._take()
            if self._hub in ready:
                going = self._obey()
            self._commit()
            if not any(socket.readable for socket in self._outlet.sockets):
                self._tell()
        self._tell()

    def close(self) -> None:
        """End the sink: with the end-of-run record, if ingest sent one."""
        self._outlet.close()
        while True:
            try:
                self._sink.close(self._eor)
            except OSError as error:
                self._lose_room(error)
                self._beat.send_if_due()
                if self._hub.poll(RETRY_S) and not self._obey():
                    self._eor = None
            else:
                return

    def _patience(self) -> float:
        now = time.monotonic()
        due_s = self._room.wait_s(now) if self._room.full else self._committer.due_in(now)
        return max(0.0, min(ORPHAN_CHECK_S, due_s))

    def _take(self) -> None:
        """Hold the results that are there; what was committed or is held already is a duplicate."""
        while True:
            try:
                found = self._outlet.receive()
            except ProtocolError:  # no worker of ours sends such a thing
                continue
            if found is None:
                return
            (_, header, payload), far = found
            if far and not self._fits(header, payload):
                continue
            seq = header.seq
            if header.kind == Kind.RESULT and seq >= self._committer.next and seq not in self._held:
                self._held[seq] = self._result(header, payload)

    def _fits(self, header: Header, payload: list[memoryview]) -> bool:
        """Whether what came from another host can be committed: columns, counts, and the epoch."""
        if not is_sound(header, payload, self._codec):
            return False
        return self._committer.knows_epoch(record_epoch(unpack_summary(payload[0]).batch_record))

    def _result(self, header: Header, payload: list[memoryview]) -> BatchResult:
        summary, *rest = payload
        result = Result.from_header(header)
        kept = EventBatch({}, 0, result.seq)
        if result.slot is not None:
            kept = self._slots.batch(result.slot, -1, result.events, result.seq)
        elif rest:
            kept = self._codec.unpack(rest[0], result.events, result.seq)
        return BatchResult(result.seq, result.processed_events, kept, summary)

    def _commit(self) -> None:
        committer, held = self._committer, self._held
        now = time.monotonic()
        if self._room.wait_s(now) > 0:
            return
        try:
            if self._room.full:
                committer.flush()
            while committer.next in held:
                committer.add(held.pop(committer.next), now)
            if committer.due_in(now) <= 0:
                committer.flush()
        except OSError as error:
            self._lose_room(error)
        else:
            if self._room.on_success():
                self._hub.send(DiskFull(False, self._run).to_header())

    def _lose_room(self, error: OSError) -> None:
        """Tell ingest, once, that there is no room; RunError if it is no use to wait."""
        if self._room.on_error(error, time.monotonic()):
            full = DiskFull(True, self._run).to_header()
            self._hub.send(full, msgspec.json.encode(str(error)))

    def _acknowledge(self, first: int, batches: int, payload: bytes) -> None:
        self._settled.append((first, batches, payload))
        if len(self._settled) >= _SETTLED:
            self._tell()

    def _tell(self) -> None:
        """Let ingest know what is committed; each message wakes three threads."""
        if self._settled:
            firsts, batches, payloads = zip(*self._settled, strict=True)
            ack = CommitAck(firsts[0], sum(batches), self._run)
            self._hub.send(ack.to_header(), merge_acks(payloads))
            self._settled.clear()

    def _obey(self) -> bool:
        """Take ingest's word; False if it is STOP."""
        message = self._hub.receive()
        if message is None:
            return True
        _, header, payload = message
        if header.kind == Kind.EOR:
            self._eor = msgspec.json.decode(payload[0])
        elif header.kind == Kind.FLUSH:
            self._committer.flush_eagerly()
        elif header.kind == Kind.CONTROL:
            swap = msgspec.json.decode(payload[0], type=Swap)
            self._committer.register_swap(swap.for_journal())
            reply = msgspec.json.encode(SwapReply(swap.attempt))
            self._hub.send(Header(Kind.READY, self._run), reply)
        return header.kind != Kind.STOP


def open_result_socket(spec: ProcessSpec) -> Router:
    """Listen for results; where the graph says so also for those of other hosts."""
    workers = spec.config.workers
    gate = None
    if workers.results:
        gate = Socket(workers.results, security=load_server_auth(workers.security, "workers"))
    return Router(Socket(spec.outlet), gate)


def is_sound(header: Header, payload: list[memoryview], codec: Codec) -> bool:
    """Whether a message from another host is a result that can be committed as it is."""
    if header.kind != Kind.RESULT or Result.from_header(header).slot is not None or not payload:
        return False
    try:
        unpack_summary(payload[0])
        if header.events:
            codec.unpack(payload[1], header.events, header.seq)
    except (ProtocolError, IndexError):
        return False
    return True
