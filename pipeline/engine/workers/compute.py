"""A compute worker: receives batches from ingest, runs its segment, sends results to the sink."""

from __future__ import annotations

import gc
import os
import time
from typing import Any

import msgspec
from msgspec.structs import replace

from sluice.pipeline.config.plugins import build
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ErrorRecord, ModelError, RunError
from sluice.pipeline.engine.model_swap import ModelPreload, Swap, SwapReply
from sluice.pipeline.execution.chain import Chain
from sluice.pipeline.graph.graph import Graph, build_graph
from sluice.pipeline.graph.segments import split
from sluice.pipeline.sinks.base import Sink
from sluice.pipeline.transport.batch_summary import pack_summary
from sluice.pipeline.transport.codec import Codec
from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.run_messages import Credit, Data, Result, WorkerHello
from sluice.pipeline.transport.segment_state import (
    EMPTY,
    SegmentState,
    pack_segment_state,
    unpack_segment_state,
)

from .heartbeat import Heartbeat
from .ingest_socket import IngestSocket
from .join import refusal
from .link import LocalLink, WorkerLink
from .process_spec import PARENT_CHECK_S, ProcessSpec, max_unreported, run_process

#: Interval at which a worker that loads a model checks whether it is ready, s.
_SWAP_POLL_S = 0.02


def start(path: str) -> int:
    """Run a compute worker with the specification in `path`; return the exit code."""
    return run_process(run_worker, path, ends_with_engine=True)


def run_worker(spec: ProcessSpec, ingest: IngestSocket) -> None:
    """Open the chain, then process batches until ingest sends STOP."""
    worker = ComputeWorker(spec, ingest)
    try:
        worker.begin()
        while worker.step():
            pass
    finally:
        worker.close()


class ComputeWorker:
    """A warmed-up chain of stages, connected to ingest and sink.

    Parameters
    ----------
    spec
        Start-up parameters of the worker.
    ingest
        Socket connected to ingest.
    link
        Connection to ingest and sink; a `LocalLink` if None.
    """

    def __init__(
        self, spec: ProcessSpec, ingest: IngestSocket, link: WorkerLink | None = None
    ) -> None:
        sink: Sink = build("sink", spec.config.sink, spec.config.origin)
        graph = build_graph(spec.config, spec.schema, sink.columns)
        whole, graph = graph, split(graph)[spec.segment]
        _require_same_models(graph, spec)
        self._spec, self._ingest, self._graph = spec, ingest, graph
        self._link = link or LocalLink(spec)
        self._chain = Chain(graph, self._link.meters(graph), sink.keep)
        self._chain.open()
        self._epoch = spec.epoch
        self._attempt = 0 if spec.swap is None else spec.swap.attempt
        self._preload: ModelPreload | None = None
        #: Error of each swap that was prepared, None for success, by its epoch.
        self._swap_errors: dict[int, Exception | None] = {}
        if spec.swap is not None:
            swap = spec.swap
            self._chain.prepare(swap.stage, swap.epoch, swap.load())
        self._sink = self._link.connect_sink()
        self._input_codec, self._output_codec = Codec(graph.inputs), Codec(graph.outputs)
        self._slots = spec.open_slots(whole, sink.keep) if spec.slots_path else None
        self._heartbeat = Heartbeat(ingest, self._link.heartbeat)
        #: Batches processed and not reported yet: number, events, service time in ns.
        self._unreported: list[tuple[int, int, int]] = []
        #: Batches that this worker has asked for since its start.
        self._asked_for = spec.credit
        os.sched_setaffinity(0, spec.cores.main)
        gc.freeze()  # the garbage collector need not visit objects that live as long as the process

    def begin(self) -> None:
        """Tell ingest that the worker is ready, and ask for the first batches."""
        self._ingest.send(WorkerHello(os.getpid()).to_header(), self._service_s())
        self._ingest.send(Credit(self._asked_for).to_header())

    def step(self) -> bool:
        """Wait for one message and handle it; False when the worker shall end."""
        if self._unreported and not self._ingest.poll(0.0):
            self._request_batches()
        preparing = self._preload is not None
        readable = self._ingest.poll(_SWAP_POLL_S if preparing else PARENT_CHECK_S)
        if preparing:
            self._report_swap()
        if self._heartbeat.send_if_due() and self._link.may_lose_messages:
            self._ingest.send(Credit(self._asked_for).to_header())
        if not readable:
            return not self._link.is_lost()
        message = self._ingest.receive()
        began_ns = time.monotonic_ns()
        if message is None:
            return True
        _, header, payload = message
        if header.kind == Kind.STOP:
            self._heartbeat.send()
            return False
        self._link.on_message()
        if header.kind == Kind.CONTROL:
            self._prepare(msgspec.json.decode(payload[0], type=Swap))
            return True
        if header.kind == Kind.HEARTBEAT:
            return True
        if header.kind == Kind.ERROR:
            raise RunError(f"ingest: {refusal(payload)}", hint="join again")
        if header.kind != Kind.DATA:
            name = self._spec.name
            raise RunError(f"worker {name!r}: expected DATA, CONTROL or STOP, got {header.kind}")
        data = Data.from_header(header)
        if self._graph.has_next_segment:
            self._run_segment(data, payload, began_ns)
            return True
        self._run_last_segment(data, payload)
        took_ns = time.monotonic_ns() - began_ns
        self._unreported.append((header.seq, header.events, took_ns))
        if len(self._unreported) >= min(self._spec.credit // 2, max_unreported(header.events)):
            self._request_batches()
        return True

    def close(self) -> None:
        """Close the connection to the sink and the chain."""
        self._sink.close()
        self._chain.close()

    def _service_s(self) -> bytes:
        """Return the payload of HELLO: service times at warm-up as JSON, by rung and batch size."""
        return msgspec.json.encode(self._chain.service_s)

    def _request_batches(self) -> None:
        """Report the processed batches and ask for as many, in one message for all of them."""
        seq, events, took_ns = self._unreported[-1]
        self._asked_for += len(self._unreported)
        self._ingest.send(Credit(self._asked_for, seq, events, took_ns).to_header())
        self._unreported.clear()

    def _prepare(self, swap: Swap) -> None:
        """Start to load the model of a swap, after the end of an earlier attempt.

        A swap that is late or repeated must not replace what a later one has prepared.
        """
        if swap.attempt <= self._attempt:
            return
        if self._preload is not None:
            self._preload.wait()
            self._report_swap()
        self._attempt = swap.attempt
        self._swap_errors.pop(swap.epoch, None)
        self._preload = ModelPreload(self._chain, swap, self._spec.cores.others)

    def _report_swap(self) -> None:
        """Reply to a swap once its model is ready or refused."""
        preload = self._preload
        if preload is None or not preload.done:
            return
        error = preload.error
        record = None if error is None else ErrorRecord.of(error, self._spec.name)
        ready = SwapReply(preload.swap.attempt, record)
        self._ingest.send(Header(Kind.READY), msgspec.json.encode(ready))
        self._swap_errors[preload.swap.epoch], self._preload = error, None

    def _wait_for_epoch(self, epoch: int) -> None:
        """Wait until the models of an epoch are ready; its swap came before its first batch."""
        if epoch not in self._swap_errors and self._preload is not None:
            self._preload.wait()
            self._report_swap()
        if epoch not in self._swap_errors:
            raise RunError(f"batch of epoch {epoch}: its models were never announced")
        error = self._swap_errors[epoch]
        if error is not None:
            raise error
        self._epoch = epoch

    def _run_last_segment(self, data: Data, payload: list[memoryview]) -> None:
        """Run a batch through the last segment and send its result to the sink."""
        batch, ready_ns, state = self._unpack(data, payload)
        search = self._link.crash_search(data, self._graph.segment)
        kept, summary = self._chain.run(batch, ready_ns, data.rung, data.epoch, state, search)
        kept, summary = self._link.globalise(kept, summary)
        header, *frames = self._result_message(data, kept, pack_summary(summary))
        self._sink.send(header.of(self._ingest.session), *frames)

    def _run_segment(self, data: Data, payload: list[memoryview], began_ns: int) -> None:
        """Run a batch through this segment and return it to ingest, for the next one."""
        batch, ready_ns, state = self._unpack(data, payload)
        search = self._link.crash_search(data, self._graph.segment)
        passed, state = self._chain.run_segment(
            batch, ready_ns, data.rung, data.epoch, state, search
        )
        passed, state = self._link.globalise(passed, state)
        state = replace(state, took_ns=time.monotonic_ns() - began_ns)
        self._ingest.send(*self._result_message(data, passed, pack_segment_state(state)))

    def _unpack(
        self, data: Data, payload: list[memoryview]
    ) -> tuple[EventBatch, int, SegmentState]:
        """Return the received batch, since when it waits (ns), and its segment state."""
        state = EMPTY
        if self._graph.segment:
            state, payload = unpack_segment_state(payload[0]), payload[1:]
        if self._slots is None or data.slot is None:
            batch = self._input_codec.unpack(payload[0], data.events, data.seq)
        else:
            segment = self._graph.segment
            batch = self._slots.batch(data.slot, segment, data.events, data.seq)
        if data.epoch > self._epoch:
            self._wait_for_epoch(data.epoch)
        return self._link.localise(batch, data, state)

    def _result_message(self, data: Data, result: EventBatch, found: bytes) -> list[Any]:
        """Return a RESULT: header, summary or state, and the batch if it is not in its slot."""
        frames: list[Any] = [found]
        slots, slot = self._slots, data.slot
        if slots is None or slot is None or not slots.write(slot, self._graph.segment + 1, result):
            slot = None
        if slot is None and (result.events or self._graph.has_next_segment):
            frames.append(self._output_codec.pack(result))
        answer = Result(
            data.seq, result.events, slot, data.rung, data.epoch, data.events, data.token,
            time.monotonic_ns(),
        )  # fmt: skip
        return [answer.to_header(), *frames]


def _label(model: dict[str, str]) -> str:
    return f"{model['name']}/{model['version']} {model['sha256'][:16]}… by {model['backend']}"


def _require_same_models(graph: Graph, spec: ProcessSpec) -> None:
    """Raise ModelError if a restarted worker finds other models than those of the run."""
    for stage, info in graph.models().items():
        expected = spec.models[stage]
        if info != expected:
            raise ModelError(
                f"stage {stage!r}: the run uses {_label(expected)}, the repository here "
                f"has {_label(info)}"
            )
