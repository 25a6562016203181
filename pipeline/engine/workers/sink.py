"""The sink process: orders results, commits each batch once, acknowledges to ingest."""

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
from .process_spec import PARENT_CHECK_S, ProcessSpec, run_process
from .router import Router

#: Acknowledge up to this many commits in one message under load.
_MAX_PENDING_ACKS = 4


def start(path: str) -> int:
    """Run the sink process with the specification in `path`; return the exit code."""
    return run_process(run_sink, path)


def run_sink(spec: ProcessSpec, ingest: Socket) -> None:
    """Open the sink, then commit results in the order of their sequence numbers until EOR."""
    sink: Sink = build("sink", spec.config.sink, spec.config.origin)
    graph = build_graph(spec.config, spec.schema, sink.columns)
    commits = _open_sink(sink, graph, spec, ingest)
    worker = SinkWorker(spec, ingest, sink, graph, commits)
    try:
        worker.run()
    finally:
        worker.close()
    ingest.send(Header(Kind.EOR), msgspec.json.encode(sink.describe()))


def _open_sink(sink: Sink, graph: Graph, spec: ProcessSpec, ingest: Socket) -> list[CommitRecord]:
    """Open the sink.

    A restarted sink waits for disk space; a new run on a full disk is refused at once.
    """
    storage = StorageRetry(sink.disk_full_timeout_s)
    while not spec.is_orphaned():
        try:
            return sink.open(graph.outputs, spec.bor, spec.first_seq)
        except OSError as error:
            if spec.first_seq is None or error.errno not in DISK_FULL_ERRNOS:
                raise RunError(f"cannot open: {error}") from error
            if storage.on_error(
                error, time.monotonic()
            ):  # HELLO will report that there is space again
                run = int(spec.bor.get("run", 0))
                ingest.send(DiskFull(True, run).to_header(), msgspec.json.encode(str(error)))
        time.sleep(RETRY_S)
    raise RunError("cannot open: the engine is gone")


class SinkWorker:
    """Receives results in any order and commits them in the order of their batches."""

    def __init__(
        self,
        spec: ProcessSpec,
        ingest: Socket,
        sink: Sink,
        graph: Graph,
        commits: list[CommitRecord],
    ) -> None:
        self._spec = spec
        self._ingest = ingest
        self._sink = sink
        self._run = int(spec.bor.get("run", 0))
        self._codec = Codec(graph.outputs)
        self._slots = spec.open_slots(graph, sink.keep)
        last = commits[-1] if commits else CommitRecord(next=spec.first_seq or 0)
        limits = spec.config.graph
        self._committer = GroupCommit(sink, graph.outputs, limits, last, self._acknowledge)
        for swap in spec.activated_swaps:
            self._committer.register_swap(swap.for_journal())
        self._storage = StorageRetry(sink.disk_full_timeout_s)
        self._pending: dict[int, BatchResult] = {}
        self._eor: dict[str, Any] | None = None
        self._results = open_result_socket(spec)
        self._heartbeat = Heartbeat(ingest)
        #: First batch that is not acknowledged to ingest yet; number of batches and summaries of
        #: each commit from there on.
        self._first_ack = 0
        self._acks: list[tuple[int, bytes]] = []
        for record in commits:  # the previous attempt may not have sent their ACKs
            self._acknowledge(record.first, len(record.events_by_batch), record.payload())
        self._send_acks()

    def run(self) -> None:
        """Commit until EOR or STOP."""
        poller = Poller((self._ingest, *self._results.sockets))
        self._ingest.send(SinkHello(self._committer.next, self._run).to_header())
        going = True
        while going and self._eor is None:
            ready = poller.poll(self._poll_timeout())
            self._heartbeat.send_if_due()
            if not ready and self._spec.is_orphaned():
                return
            if any(socket in ready for socket in self._results.sockets):
                self._receive_results()
            if self._ingest in ready:
                going = self._on_ingest_message()
            self._commit()
            if not any(socket.readable for socket in self._results.sockets):
                self._send_acks()
        self._send_acks()

    def close(self) -> None:
        """Close the sink, with the end-of-run record if ingest sent one."""
        self._results.close()
        while True:
            try:
                self._sink.close(self._eor)
            except OSError as error:
                self._on_write_error(error)
                self._heartbeat.send_if_due()
                if self._ingest.poll(RETRY_S) and not self._on_ingest_message():
                    self._eor = None
            else:
                return

    def _poll_timeout(self) -> float:
        now = time.monotonic()
        due_s = (
            self._storage.wait_s(now) if self._storage.disk_full else self._committer.due_in(now)
        )
        return max(0.0, min(PARENT_CHECK_S, due_s))

    def _receive_results(self) -> None:
        """Receive the waiting results; drop those of batches that are committed or held already."""
        while True:
            try:
                found = self._results.receive()
            except ProtocolError:  # no local worker sends a message that breaks the protocol
                continue
            if found is None:
                return
            (_, header, payload), remote = found
            if remote and not self._is_valid(header, payload):
                continue
            seq = header.seq
            if (
                header.kind == Kind.RESULT
                and seq >= self._committer.next
                and seq not in self._pending
            ):
                self._pending[seq] = self._result(header, payload)

    def _is_valid(self, header: Header, payload: list[memoryview]) -> bool:
        """Whether a result of a remote worker has the right columns, counts and a known epoch."""
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
        committer, held = self._committer, self._pending
        now = time.monotonic()
        if self._storage.wait_s(now) > 0:
            return
        try:
            if self._storage.disk_full:
                committer.flush()
            while committer.next in held:
                committer.add(held.pop(committer.next), now)
            if committer.due_in(now) <= 0:
                committer.flush()
        except OSError as error:
            self._on_write_error(error)
        else:
            if self._storage.on_success():
                self._ingest.send(DiskFull(False, self._run).to_header())

    def _on_write_error(self, error: OSError) -> None:
        """Report a full disk to ingest, once; RunError if waiting does not help."""
        if self._storage.on_error(error, time.monotonic()):
            full = DiskFull(True, self._run).to_header()
            self._ingest.send(full, msgspec.json.encode(str(error)))

    def _acknowledge(self, first: int, batches: int, payload: bytes) -> None:
        if not self._acks:
            self._first_ack = first
        self._acks.append((batches, payload))
        if len(self._acks) >= _MAX_PENDING_ACKS:
            self._send_acks()

    def _send_acks(self) -> None:
        """Acknowledge all pending commits in few messages, as each wakes three threads."""
        if self._acks:
            for batches, payload in merge_acks(self._acks):
                ack = CommitAck(self._first_ack, batches, self._run)
                self._ingest.send(ack.to_header(), payload)
                self._first_ack += batches
            self._acks.clear()

    def _on_ingest_message(self) -> bool:
        """Handle a message of ingest; False if it is STOP."""
        message = self._ingest.receive()
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
            self._ingest.send(Header(Kind.READY, self._run), reply)
        return header.kind != Kind.STOP


def open_result_socket(spec: ProcessSpec) -> Router:
    """Open the result sockets: a local one, and a remote one if the graph configures it."""
    workers = spec.config.workers
    remote = None
    if workers.results:
        remote = Socket(workers.results, security=load_server_auth(workers.security, "workers"))
    return Router(Socket(spec.sink_endpoint), remote)


def is_sound(header: Header, payload: list[memoryview], codec: Codec) -> bool:
    """Whether a message of a remote worker is a RESULT that can be unpacked and committed."""
    if header.kind != Kind.RESULT or Result.from_header(header).slot is not None or not payload:
        return False
    try:
        unpack_summary(payload[0])
        if header.events:
            codec.unpack(payload[1], header.events, header.seq)
    except (ProtocolError, IndexError):
        return False
    return True
