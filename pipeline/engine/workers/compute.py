"""A compute worker: asks ingest for batches, runs the chain, gives results to the sink."""

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
from sluice.pipeline.transport.socket import Socket

from .heartbeat import Heartbeat
from .link import LocalLink, WorkerLink
from .process_spec import ORPHAN_CHECK_S, ProcessSpec, max_unreported, run_process

#: How often a worker without batches looks whether a model is ready.
_PREPARING_S = 0.02


def start(path: str) -> int:
    """Play this role by the spec file at `path`; return the exit code."""
    return run_process(work, path)


def work(spec: ProcessSpec, hub: Socket) -> None:
    """Open the chain, then judge batches until ingest says stop."""
    worker = ComputeWorker(spec, hub)
    try:
        hub.send(WorkerHello(os.getpid()).to_header(), worker.service_s())
        hub.send(Credit(spec.credit).to_header())
        while worker.step():
            pass
    finally:
        worker.close()


class ComputeWorker:
    """A chain that is warm, with its ways in and out.

    Parameters
    ----------
    spec
        What to run.
    hub
        Where batches are asked for and come from.
    place
        What depends on where it runs; beside ingest unless given.
    """

    def __init__(self, spec: ProcessSpec, hub: Socket, place: WorkerLink | None = None) -> None:
        sink: Sink = build("sink", spec.config.sink, spec.config.origin)
        graph = build_graph(spec.config, spec.schema, sink.columns)
        whole, graph = graph, split(graph)[spec.segment]
        _same_models(graph, spec)
        self._spec, self._hub, self._graph = spec, hub, graph
        self._place = place or LocalLink(spec)
        self._chain = Chain(graph, self._place.meters(graph), sink.keep)
        self._chain.open()
        self._epoch = spec.epoch
        self._preparation: ModelPreload | None = None
        #: What came of each swap that was prepared, by its epoch.
        self._outcomes: dict[int, Exception | None] = {}
        if spec.swap is not None:
            swap = spec.swap
            self._chain.prepare(swap.stage, swap.epoch, swap.load())
        self._outlet = self._place.outlet()
        self._inward, self._outward = Codec(graph.inputs), Codec(graph.outputs)
        self._slots = spec.open_slots(whole, sink.keep) if spec.slots else None
        self._beat = Heartbeat(hub, self._place.heartbeat_payload)
        #: Batches judged for which it has not asked for others: number, events, nanoseconds.
        self._owed: list[tuple[int, int, int]] = []
        os.sched_setaffinity(0, spec.cores.main)
        gc.freeze()  # what was loaded stays: the collector need not walk it again

    def service_s(self) -> bytes:
        """Return the payload of HELLO: what batches took at the warm-up, by their size."""
        return msgspec.json.encode(self._chain.service_s)

    def step(self) -> bool:
        """Wait for one message and obey it; False when it is time to end."""
        if self._owed and not self._hub.poll(0.0):
            self._request_batches()
        preparing = self._preparation is not None
        heard = self._hub.poll(_PREPARING_S if preparing else ORPHAN_CHECK_S)
        if preparing:
            self._tell_when_ready()
        self._beat.send_if_due()
        if not heard:
            return not self._place.is_lost()
        message = self._hub.receive()
        began = time.monotonic_ns()
        if message is None:
            return True
        _, header, payload = message
        if header.kind == Kind.STOP:
            self._beat.send()
            return False
        self._place.hear()
        if header.kind == Kind.CONTROL:
            self._prepare(msgspec.json.decode(payload[0], type=Swap))
            return True
        if header.kind == Kind.HEARTBEAT:
            return True
        if header.kind != Kind.DATA:
            name = self._spec.name
            raise RunError(f"worker {name!r}: expected DATA, CONTROL or STOP, got {header.kind}")
        data = Data.from_header(header)
        if self._graph.has_next_segment:
            self._pass_on(data, payload, began)
            return True
        self._judge(data, payload)
        took = time.monotonic_ns() - began
        self._owed.append((header.seq, header.events, took))
        if len(self._owed) >= min(self._spec.credit // 2, max_unreported(header.events)):
            self._request_batches()
        return True

    def close(self) -> None:
        """Close the way out and the chain."""
        self._outlet.close()
        self._chain.close()

    def _request_batches(self) -> None:
        """Ask for a batch for each that is judged: a message wakes three threads."""
        seq, events, took = self._owed[-1]
        self._hub.send(Credit(len(self._owed), seq, events, took).to_header())
        self._owed.clear()

    def _prepare(self, swap: Swap) -> None:
        """Begin to prepare a swap; one that was given up is over first."""
        if self._preparation is not None:
            self._preparation.wait()
            self._tell_when_ready()
        self._outcomes.pop(swap.epoch, None)
        self._preparation = ModelPreload(self._chain, swap, self._spec.cores.others)

    def _tell_when_ready(self) -> None:
        """Answer a swap once it is prepared or refused."""
        preparation = self._preparation
        if preparation is None or not preparation.done:
            return
        error = preparation.error
        words = None if error is None else ErrorRecord.of(error, self._spec.name)
        ready = SwapReply(preparation.swap.attempt, words)
        self._hub.send(Header(Kind.READY), msgspec.json.encode(ready))
        self._outcomes[preparation.swap.epoch], self._preparation = error, None

    def _wait_for_epoch(self, epoch: int) -> None:
        """Make sure that the models of an epoch are ready: a swap came before its first batch."""
        if epoch not in self._outcomes and self._preparation is not None:
            self._preparation.wait()
            self._tell_when_ready()
        if epoch not in self._outcomes:
            raise RunError(f"batch of epoch {epoch}: its models were never announced")
        error = self._outcomes[epoch]
        if error is not None:
            raise error
        self._epoch = epoch

    def _judge(self, data: Data, payload: list[memoryview]) -> None:
        """Judge a batch to the end and give what came of it to the sink."""
        batch, ready_ns, carry = self._take(data, payload)
        kept, summary = self._chain.run(batch, ready_ns, data.rung, data.epoch, carry)
        kept, summary = self._place.globalise(kept, summary)
        self._outlet.send(*self._answer(data, kept, pack_summary(summary)))

    def _pass_on(self, data: Data, payload: list[memoryview], began: int) -> None:
        """Do this segment's part of a batch and give it back to ingest, for the next."""
        batch, ready_ns, carry = self._take(data, payload)
        passed, carry = self._chain.run_segment(batch, ready_ns, data.rung, data.epoch, carry)
        passed, carry = self._place.globalise(passed, carry)
        carry = replace(carry, took_ns=time.monotonic_ns() - began)
        self._hub.send(*self._answer(data, passed, pack_segment_state(carry)))

    def _take(self, data: Data, payload: list[memoryview]) -> tuple[EventBatch, int, SegmentState]:
        """Return a batch that has come, since when it waits, and what was found before."""
        carry = EMPTY
        if self._graph.segment:
            carry, payload = unpack_segment_state(payload[0]), payload[1:]
        if self._slots is None or data.slot is None:
            batch = self._inward.unpack(payload[0], data.events, data.seq)
        else:
            segment = self._graph.segment
            batch = self._slots.batch(data.slot, segment, data.events, data.seq)
        if data.epoch > self._epoch:
            self._wait_for_epoch(data.epoch)
        return self._place.localise(batch, data, carry)

    def _answer(self, data: Data, result: EventBatch, found: bytes) -> list[Any]:
        """Return a RESULT: header, what was found, and what came of the batch if it must travel."""
        frames: list[Any] = [found]
        slots, slot = self._slots, data.slot
        if slots is None or slot is None or not slots.write(slot, self._graph.segment + 1, result):
            slot = None
        if slot is None and (result.events or self._graph.has_next_segment):
            frames.append(self._outward.pack(result))
        answer = Result(
            data.run, data.seq, result.events, slot, data.events, data.t_ingest, time.monotonic_ns()
        )
        return [answer.to_header(), *frames]


def _label(model: dict[str, str]) -> str:
    return f"{model['name']}/{model['version']} {model['sha256'][:16]}… by {model['backend']}"


def _same_models(graph: Graph, spec: ProcessSpec) -> None:
    """Refuse to go on with other models than the run has, as a restarted worker might."""
    for stage, info in graph.models().items():
        began = spec.models[stage]
        if info != began:
            raise ModelError(
                f"stage {stage!r}: the run goes on with {_label(began)}, the repository here has "
                f"{_label(info)}"
            )
