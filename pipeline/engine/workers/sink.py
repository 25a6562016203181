"""The sink process: orders results, commits each batch once, acknowledges to ingest."""

from __future__ import annotations

import logging
import time
from typing import Any

import msgspec

from sluice.pipeline.config.plugins import build
from sluice.pipeline.core.errors import ProtocolError, RunError
from sluice.pipeline.core.log import limiter
from sluice.pipeline.engine.base import SinkReport
from sluice.pipeline.engine.group_commit import GroupCommit
from sluice.pipeline.engine.model_swap import Swap, SwapReply
from sluice.pipeline.engine.storage_retry import DISK_FULL_ERRNOS, RETRY_S, StorageRetry
from sluice.pipeline.graph.graph import Graph, build_graph
from sluice.pipeline.graph.segments import split
from sluice.pipeline.journal.commit import BatchResult, CommitRecord
from sluice.pipeline.sinks.base import Sink
from sluice.pipeline.transport.batch_summary import merge_acks
from sluice.pipeline.transport.codec import Codec
from sluice.pipeline.transport.poller import Poller
from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.run_messages import CommitAck, DiskFull, SinkHeartbeat, SinkHello
from sluice.pipeline.transport.socket import Message, Socket

from .batch_token import TokenKey
from .heartbeat import Heartbeat
from .ingest_socket import IngestSocket
from .process_spec import PARENT_CHECK_S, ProcessSpec, max_in_flight, run_process
from .result_reader import ResultReader
from .router import Router, open_remote

_LOG = logging.getLogger("sluice.engine")
_REFUSED = "{count:,} results refused, the latest: {reason}"
#: Acknowledge up to this many commits in one message under load.
_MAX_PENDING_ACKS = 4
#: Longest time that an acknowledgement waits for others, s, whatever messages come meanwhile.
_MAX_ACK_DELAY_S = 0.005


def start(path: str) -> int:
    """Run the sink process with the specification in `path`; return the exit code."""
    return run_process(run_sink, path)


def run_sink(spec: ProcessSpec, ingest: IngestSocket) -> None:
    """Open the sink, then commit results in the order of their sequence numbers until EOR."""
    sink: Sink = build("sink", spec.config.sink, spec.config.origin)
    graph = build_graph(spec.config, spec.schema, sink.columns)
    commits = _open_sink(sink, graph, spec, ingest)
    worker = SinkWorker(spec, ingest, sink, graph, commits)
    try:
        worker.run()
    finally:
        worker.close()
    report = SinkReport(sink.describe(), worker.committed)
    ingest.send(Header(Kind.EOR), msgspec.json.encode(report))


def _open_sink(
    sink: Sink, graph: Graph, spec: ProcessSpec, ingest: IngestSocket
) -> list[CommitRecord]:
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
                ingest.send(DiskFull(True).to_header(), msgspec.json.encode(str(error)))
        time.sleep(RETRY_S)
    raise RunError("cannot open: the engine is gone")


class SinkWorker:
    """Receives results in any order and commits them in the order of their batches."""

    def __init__(
        self,
        spec: ProcessSpec,
        ingest: IngestSocket,
        sink: Sink,
        graph: Graph,
        commits: list[CommitRecord],
    ) -> None:
        self._spec = spec
        self._ingest = ingest
        self._sink = sink
        key, last_segment = TokenKey(bytes.fromhex(spec.token_secret)), len(split(graph)) - 1
        self._reader = ResultReader(
            spec.run, key, last_segment, Codec(graph.outputs), spec.open_slots(graph, sink.keep)
        )
        self._refused = 0
        last = commits[-1] if commits else CommitRecord(next=spec.first_seq or 0)
        # What a sink without a journal had committed before it was restarted is not known.
        self._knows_all = bool(commits) or not spec.first_seq
        limits = spec.config.graph
        self._committer = GroupCommit(sink, graph.outputs, limits, last, self._acknowledge)
        for swap in spec.activated_swaps:
            self._committer.register_swap(swap.for_journal())
        self._storage = StorageRetry(sink.disk_full_timeout_s)
        self._pending: dict[int, BatchResult] = {}
        self._max_pending = max_in_flight(limits.window)
        self._eor: dict[str, Any] | None = None
        self._results = open_result_socket(spec)
        self._heartbeat = Heartbeat(ingest, self._heartbeat_message)
        #: First batch that is not acknowledged to ingest yet; number of batches and summaries of
        #: each commit from there on.
        self._first_ack = 0
        self._ack_at_s = self._parent_check_at_s = 0.0
        self._acks: list[tuple[int, bytes]] = []
        for record in commits:  # the previous attempt may not have sent their ACKs
            self._acknowledge(record.first, len(record.events_by_batch), record.payload())
        self._send_acks()

    def run(self) -> None:
        """Commit until EOR or STOP."""
        poller = Poller(self.sockets)
        self.begin()
        while self.step(poller.poll(self.poll_timeout())):
            pass

    @property
    def committed(self) -> list[int] | None:
        """Number of events by `Outcome` that were committed in the run; None if it is not known."""
        return self._committer.committed if self._knows_all else None

    @property
    def sockets(self) -> list[IngestSocket | Socket]:
        """Sockets from which messages come."""
        return [self._ingest, *self._results.sockets]

    def begin(self) -> None:
        """Tell ingest that the sink is ready."""
        self._ingest.send(SinkHello(self._committer.next).to_header())

    def step(self, ready: list[IngestSocket | Socket]) -> bool:
        """Handle the messages of the sockets in `ready`; False when the sink shall end."""
        self._heartbeat.send_if_due()
        if self._is_orphaned():
            return False
        if any(socket in ready for socket in self._results.sockets):
            self._receive_results()
        going = self._ingest not in ready or self._on_ingest_message()
        self._commit()
        going = going and self._eor is None
        idle = not any(socket.readable for socket in self._results.sockets)
        if not going or idle or time.monotonic() >= self._ack_at_s:
            self._send_acks()
        if not going:
            self._heartbeat.send()  # the last number of refused messages
        return going

    def close(self) -> None:
        """Close the sink, with the end-of-run record if ingest sent one."""
        self._results.close()
        while True:
            try:
                self._sink.close(self._eor)
            except OSError as error:
                self._on_write_error(error)
                self._heartbeat.send_if_due()
                if self._spec.is_orphaned():
                    return
                if self._ingest.poll(RETRY_S) and not self._on_ingest_message():
                    self._eor = None
            else:
                return

    def _is_orphaned(self) -> bool:
        """Whether the engine has exited; checked once in a while, whatever messages come."""
        now_s = time.monotonic()
        if now_s < self._parent_check_at_s:
            return False
        self._parent_check_at_s = now_s + PARENT_CHECK_S
        return self._spec.is_orphaned()

    def poll_timeout(self) -> float:
        """Return the longest time to wait for messages, s."""
        now = time.monotonic()
        due_s = (
            self._storage.wait_s(now) if self._storage.disk_full else self._committer.due_in(now)
        )
        return max(0.0, min(PARENT_CHECK_S, due_s))

    def _receive_results(self) -> None:
        """Receive the results of one turn; refuse what answers no batch of this run."""
        self._results.start_turn()
        while True:
            try:
                found = self._results.receive()
                if found is None:
                    return
                self._hold_result(*found)
            except ProtocolError as error:
                self._refused += 1
                limiter.warn(_LOG, "result-refused", _REFUSED, reason=error.message)

    def _hold_result(self, message: Message, remote: bool) -> None:
        """Hold a result until its turn; drop that of a batch that is committed or held already."""
        _, header, payload = message
        result, committer = self._reader.verify(header), self._committer
        if result.seq < committer.next or result.seq in self._pending:
            return
        if result.seq >= committer.next + self._max_pending:
            raise ProtocolError(f"batch {result.seq}: beyond the window, next is {committer.next}")
        if not committer.knows_epoch(result.epoch):
            raise ProtocolError(f"batch {result.seq}: unknown epoch {result.epoch}")
        self._pending[result.seq] = self._reader.unpack(result, payload, remote=remote)

    def _heartbeat_message(self) -> list[Any]:
        return [SinkHeartbeat(self._refused).to_header()]

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
                self._ingest.send(DiskFull(False).to_header())

    def _on_write_error(self, error: OSError) -> None:
        """Report a full disk to ingest, once; RunError if waiting does not help."""
        if self._storage.on_error(error, time.monotonic()):
            full = DiskFull(True).to_header()
            self._ingest.send(full, msgspec.json.encode(str(error)))

    def _acknowledge(self, first: int, batches: int, payload: bytes) -> None:
        if not self._acks:
            self._first_ack, self._ack_at_s = first, time.monotonic() + _MAX_ACK_DELAY_S
        self._acks.append((batches, payload))
        if len(self._acks) >= _MAX_PENDING_ACKS:
            self._send_acks()

    def _send_acks(self) -> None:
        """Acknowledge all pending commits in few messages, as each wakes three threads."""
        if self._acks:
            for batches, payload in merge_acks(self._acks):
                self._ingest.send(CommitAck(self._first_ack, batches).to_header(), payload)
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
            self._ingest.send(Header(Kind.READY), reply)
        return header.kind != Kind.STOP


def open_result_socket(spec: ProcessSpec) -> Router:
    """Open the result sockets: a local one, and a remote one if the graph configures it."""
    workers = spec.config.workers
    return Router(Socket(spec.sink_endpoint), open_remote(workers.results, workers))
