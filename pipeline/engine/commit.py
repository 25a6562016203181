"""The sink's process: puts results in order, commits each once, acknowledges to ingest."""

from __future__ import annotations

from typing import Any

import msgspec

from ..batch import EventBatch
from ..errors import RunError
from ..graph import build_graph
from ..parts import build
from ..sinks import Sink
from ..transport import Poller, Socket
from ..wire import Codec, Header, Kind, ProtocolError
from .slots import Slots
from .spec import LOOK_AROUND_S, Spec, main

Held = dict[int, tuple[Header, list[memoryview]]]


def commit(spec: Spec, hub: Socket) -> None:
    """Open the sink, then commit results in the order of their sequence numbers until EOR."""
    sink: Sink = build("sink", spec.config.sink, spec.config.origin)
    graph = build_graph(spec.config, spec.schema, sink.columns)
    try:
        sink.open(graph.outputs, spec.bor)
    except OSError as error:
        raise RunError(f"cannot open: {error}") from error
    outlet = Socket(spec.outlet)
    codec = Codec(graph.outputs)
    slots = spec.open_slots(graph)
    poller = Poller((hub, outlet))
    held: Held = {}
    expected = 0
    eor: dict[str, Any] | None = None
    try:
        hub.send(Header(Kind.HELLO))
        while eor is None:
            ready = poller.poll(LOOK_AROUND_S)
            if not ready and spec.orphaned():
                break
            if outlet in ready:
                expected = _take(outlet, held, expected)
            while expected in held:
                _commit_one(sink, codec, slots, hub, *held.pop(expected))
                expected += 1
            if hub in ready:
                stop, eor = _obey(hub)
                if stop:
                    break
    finally:
        outlet.close()
        _close(sink, eor)
    hub.send(Header(Kind.EOR), msgspec.json.encode(sink.describe()))


def _close(sink: Sink, eor: dict[str, Any] | None) -> None:
    try:
        sink.close(eor)
    except OSError as error:
        raise RunError(f"cannot end what it wrote: {error}") from error


def _take(outlet: Socket, held: Held, expected: int) -> int:
    """Hold the results that are there; what was committed or is held already is a duplicate."""
    while True:
        try:
            message = outlet.receive()
        except ProtocolError:  # no worker of ours sends such a thing
            continue
        if message is None:
            return expected
        _, header, payload = message
        if header.kind == Kind.RESULT and header.seq >= expected:
            held.setdefault(header.seq, (header, payload))


def _commit_one(
    sink: Sink, codec: Codec, slots: Slots, hub: Socket, header: Header, payload: list[memoryview]
) -> None:
    summary, *rest = payload
    kept = EventBatch({}, 0, header.seq)
    if header.first:
        kept = slots.result(header.first - 1, header.events, header.seq)
    elif rest:
        kept = codec.unpack(rest[0], header.events, header.seq)
    try:
        sink.write(kept)
    except OSError as error:
        raise RunError(
            f"cannot write batch {header.seq}: {error}",
            hint="make room and replay the events that the report counts as failed",
        ) from error
    hub.send(Header(Kind.ACK, header.run, seq=header.seq), summary)


def _obey(hub: Socket) -> tuple[bool, dict[str, Any] | None]:
    """Return whether to stop, and the end-of-run record if ingest sent one."""
    message = hub.receive()
    if message is None:
        return False, None
    _, header, payload = message
    if header.kind == Kind.EOR:
        return True, msgspec.json.decode(payload[0])
    return header.kind == Kind.STOP, None


if __name__ == "__main__":
    main(commit)
