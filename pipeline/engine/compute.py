"""A compute worker: asks ingest for batches, runs the chain, gives results to the sink."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path

from ..chain import Chain
from ..errors import ModelError, RunError
from ..graph import Graph, build_graph
from ..metrics import MeterBlock
from ..parts import build
from ..sinks import Sink
from ..transport import Socket
from ..wire import Codec, Header, Kind, pack_summary
from .spec import LOOK_AROUND_S, Spec, main

#: Batches asked for ahead: one to work on, one to come meanwhile.
CREDIT = 2


def work(spec: Spec, hub: Socket) -> None:
    """Open the chain, then judge batches until ingest says stop."""
    sink: Sink = build("sink", spec.config.sink, spec.config.origin)
    graph = build_graph(spec.config, spec.schema, sink.columns)
    _same_models(graph, spec)
    block = MeterBlock(*graph.meter_names(), Path(spec.meters))
    chain = Chain(graph, block, sink.keep)
    chain.open()
    outlet = Socket(spec.outlet, spec.name)
    os.sched_setaffinity(0, spec.cores.own)
    gc.freeze()  # what was loaded stays: the collector need not walk it again
    inward, outward = Codec(graph.inputs), Codec(graph.outputs)
    try:
        hub.send(Header(Kind.HELLO, aux=os.getpid()))
        hub.send(Header(Kind.CREDIT, aux=CREDIT))
        while _judge_next(spec, hub, outlet, chain, inward, outward):
            pass
    finally:
        outlet.close()
        chain.close()


def _same_models(graph: Graph, spec: Spec) -> None:
    """Refuse to go on with other models than the run began with, as a restarted worker might."""
    for stage, info in graph.models().items():
        began = spec.bor["models"][stage]
        if info != began:
            raise ModelError(
                f"stage {stage!r}: the run began with {began['name']} {began['sha256'][:16]}…, "
                f"the repository now has {info['name']} {info['sha256'][:16]}…"
            )


def _judge_next(
    spec: Spec, hub: Socket, outlet: Socket, chain: Chain, inward: Codec, outward: Codec
) -> bool:
    """Wait for one message and serve it; False when it is time to end."""
    if not hub.poll(LOOK_AROUND_S):
        return not spec.orphaned()
    message = hub.receive()
    if message is None:
        return True
    _, header, payload = message
    if header.kind == Kind.STOP:
        return False
    if header.kind != Kind.DATA:
        raise RunError(f"worker {spec.name!r}: expected DATA or STOP, got {header.kind}")
    batch = inward.unpack(payload[0], header.events, header.seq)
    kept, summary = chain.run(batch, header.t_sent, rung=header.aux & 0xFF, epoch=header.aux >> 8)
    frames = [pack_summary(summary)]
    if kept.events:
        frames.append(outward.pack(kept))
    answer = Header(Kind.RESULT, header.run, seq=header.seq, events=kept.events,
                    t_ingest=header.t_ingest, t_sent=time.monotonic_ns())  # fmt: skip
    outlet.send(answer, *frames)
    hub.send(Header(Kind.CREDIT, aux=1))
    return True


if __name__ == "__main__":
    main(work)
