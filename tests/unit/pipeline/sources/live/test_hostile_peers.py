"""Whoever reaches the ingest socket: no message, count or number of peers makes it hold much."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
from functools import partial

import numpy as np
import psutil
import pyarrow as pa
import pytest
import zmq

from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.config.plugins import build
from sluice.pipeline.core.arrow import MAX_COLUMNS, to_arrow
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ProtocolError, RunError
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.quarantine import Quarantine
from sluice.pipeline.tools.emulator.front_end import FrontEndEmulator
from sluice.pipeline.transport.codec import Codec, pack_schema, unpack_schema
from sluice.pipeline.transport.front_end_messages import BeginOfRun, EndOfRun, EventAck, EventData
from sluice.pipeline.transport.protocol import (
    EVENTS_LENGTH_WORD,
    MAX_EVENTS,
    MAX_FRAMES,
    MAX_SUMMARY_BYTES,
    MAX_TEXT_BYTES,
    Header,
    Kind,
    Limits,
    decode,
    encode,
    unpack_json,
)

RECORD = Schema((EVENT_ID, T_EVENT, Column("q", "float32")))
ITEM = 20
EVENTS = EventBatch({c.name: np.zeros_like(c.empty(10)) for c in RECORD}, 10)
ME = psutil.Process()


@pytest.fixture
def listen(listen):
    """Open sources on loopback, where anybody may connect."""
    return partial(listen, listen="tcp://127.0.0.1:0")


def answers(source, peer, kind):
    """Serve until the peer has an answer of a kind; return it."""
    found = []

    def heard():
        message = peer.receive()
        if message and message[1].kind == kind:
            found.append(message)
        return found

    source.serve(heard)
    return found[0]


def begin(source, peer, kind=Kind.ACK, first=0):
    peer.send(BeginOfRun(first, 1).to_header(), pack_schema(RECORD))
    return answers(source, peer, kind)


def raw(first, events):
    return EventData(Kind.RAW, 1, 0, first, events).to_header(), bytes(events * ITEM)


def test_ack_tells_the_limit_and_a_longer_frame_ends_the_connection(listen, connect):
    source = listen(message_bytes=4096)
    peer = connect(source, "long")
    _, header, _ = begin(source, peer)
    assert EventAck.from_header(header).max_message_bytes == 4096
    peer.send(*raw(0, 204))  # 4080 bytes
    source.serve(lambda: source.available().events == 204)
    peer.send(*raw(204, 205))
    other = connect(source, "other")
    begin(source, other)
    other.send(*raw(0, 3))
    source.serve(lambda: source.available().events == 207)
    assert source._front_ends.get(b"long").next_event == 204


def test_a_front_end_does_not_send_what_is_too_long(listen):
    source = listen(message_bytes=4096)
    caught = []

    def run():
        front_end = FrontEndEmulator(source.socket.endpoint, EVENTS, RECORD)
        try:
            front_end.run(1e6, 10_000, 1000)
        except RunError as error:
            caught.append(error)
        finally:
            front_end.close()

    thread = threading.Thread(target=run)
    thread.start()
    source.serve(lambda: caught)
    thread.join(5)
    assert "at most 4096 bytes" in caught[0].message
    assert "message_bytes" in caught[0].hint


def test_the_number_of_front_ends_is_bounded_and_the_gone_do_not_count(listen, connect):
    source = listen(front_ends=3)
    peers = [connect(source, f"p{i}") for i in range(4)]
    for peer in peers[:3]:
        begin(source, peer)
    _, _, payload = begin(source, peers[3], Kind.ERROR)
    assert "at most 3 front ends" in unpack_json(payload, dict[str, str], "ERROR")["message"]
    assert len(source._front_ends) == 3
    peers[1].close()
    deadline = time.monotonic() + 5
    while source._front_ends.get(b"p3") is None:  # until ZeroMQ has noticed
        assert time.monotonic() < deadline
        peers[3].send(Header(Kind.BOR, source=1), pack_schema(RECORD))
        if source.socket.poll(0.1):
            source.receive()
    assert len(source._front_ends) == 3
    assert source._front_ends.get(b"p1") is None
    peers[0].send(*raw(0, 2))
    source.serve(lambda: source.available().events == 2)


def test_many_peers_that_never_begin_leave_nothing_behind(listen, connect):
    """Three hundred identities that never begin leave nothing behind."""
    source = listen(front_ends=4)
    context = zmq.Context()
    peers = []
    try:
        for number in range(300):
            peer = context.socket(zmq.DEALER)
            peer.linger = 0
            peer.identity = f"peer-{number}".encode()
            peer.connect(source.socket.endpoint)
            peer.send_multipart(encode(*raw(0, 1)))
            peers.append(peer)
        errors = 0

        def all_refused():
            nonlocal errors
            losses = source.losses()
            errors += len(losses.invalid) + losses.unlisted_errors
            return errors == 300

        source.serve(all_refused)
        assert len(source._front_ends) == 0
        other = connect(source, "other")
        begin(source, other)
    finally:
        for peer in peers:
            peer.close()
        context.term()


def test_refused_messages_are_kept_up_to_a_bound_and_all_counted(listen, connect):
    source = listen()
    peer = connect(source, "mismatch")
    begin(source, peer)
    big = b"x" * 100_000
    for number in range(1500):
        while not peer.send(EventData(Kind.RAW, 1, 0, 2 * number, 2).to_header(), big):
            source.receive()
        if number % 100 == 0:
            source.receive()
    source.serve(lambda: source._front_ends.get(b"mismatch").next_event == 3000)
    losses = source.losses()
    assert len(losses.invalid) == 1000
    assert losses.unlisted_events == 1000
    assert sum(len(rejected.payload) for rejected in losses.invalid) <= 1 << 24
    graph = _graph()
    account = RunAccounting(graph, 1, Quarantine(None, graph.inputs))
    account.record_losses(losses, "source")
    assert account.snapshot().events["invalid"] == 3000
    assert account.snapshot().closed
    assert source.losses().invalid == []


def test_refused_events_without_number_are_counted_as_errors(listen, connect):
    source = listen()
    peer = connect(source, "noise")
    for _ in range(2500):
        while not peer.send(Header(Kind.EOR)):
            source.receive()
    total = 0

    def all_seen():
        nonlocal total
        losses = source.losses()
        graph_account.record_losses(losses, "source")
        total = graph_account.snapshot().protocol_errors
        return total == 2500

    graph = _graph()
    graph_account = RunAccounting(graph, 1, Quarantine(None, graph.inputs))
    source.serve(all_seen)
    assert graph_account.snapshot().events["offered"] == 0


def _graph():
    config = load_graph("hgcal")
    return build_graph(config, build("source", config.source, config.origin).schema, ())


def test_a_flood_of_messages_waits_at_the_sender(listen, connect):
    """Ingest that does not look holds a queue's length; the sender finds it full."""
    source = listen(message_bytes=65_536)
    peer = connect(source, "flood", limits=Limits(queue=10))
    begin(source, peer)
    before, sent, deadline = ME.memory_info().rss, 0, time.monotonic() + 5
    full = 0
    while full < 20 and time.monotonic() < deadline:
        if peer.send(EventData(Kind.RAW, 1, 0, sent, 3000).to_header(), bytes(3000 * ITEM)):
            sent += 3000
            full = 0
        else:
            full += 1
            time.sleep(0.01)
    assert full == 20, "the sender never found the queue full"
    assert sent // 3000 * 60_000 < 1000 * 65_536 + (64 << 20)  # a queue, and the kernel's buffers
    assert ME.memory_info().rss - before < (400 << 20)


def test_a_bomb_is_not_unpacked(listen, connect):
    """A gigabyte of zeros in a megabyte."""
    events = 1 << 20
    schema = Schema((EVENT_ID, T_EVENT, Column("q", "float32", (64,))))
    codec = Codec(schema)
    batch = EventBatch({c.name: np.zeros_like(c.empty(events)) for c in schema}, events)
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, codec.arrow_schema, options=options) as stream:
        stream.write_batch(to_arrow(batch, schema, codec.arrow_schema))
    del batch
    reader = pa.ipc.MessageReader.open_stream(sink.getvalue())
    reader.read_next_message()
    bomb = memoryview(reader.read_next_message().serialize())
    assert bomb.nbytes < 1 << 20
    before = pa.total_allocated_bytes()
    with pytest.raises(ProtocolError, match="not compressed"):
        codec.unpack(bomb, events, 0)
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_a_schema_of_too_many_columns_is_refused_quickly():
    many = pa.schema([pa.field(f"c{i}", pa.int8()) for i in range(MAX_COLUMNS + 1)])
    with pytest.raises(ProtocolError, match=f"at most {MAX_COLUMNS} columns"):
        unpack_schema(memoryview(many.serialize()))
    few = pa.schema([pa.field(f"c{i}", pa.int8()) for i in range(MAX_COLUMNS)])
    start = time.monotonic()
    assert len(unpack_schema(memoryview(few.serialize()))) == MAX_COLUMNS
    assert time.monotonic() - start < 2


def patched(header, events=0, length=0):
    """Return a header with other counts, as only another program sends them."""
    words = np.frombuffer(header, np.uint64).copy()
    words[EVENTS_LENGTH_WORD] = events | length << 32
    return words.tobytes()


@pytest.mark.parametrize(
    ("kind", "max_bytes"),
    [(Kind.BOR, MAX_TEXT_BYTES), (Kind.ERROR, MAX_TEXT_BYTES), (Kind.HELLO, MAX_TEXT_BYTES),
     (Kind.ACK, MAX_SUMMARY_BYTES)],
)  # fmt: skip
def test_payloads_are_bounded_by_kind(kind, max_bytes):
    frames = encode(Header(kind), bytes(max_bytes))
    decode(frames)
    header = patched(frames[0], length=max_bytes + 1)
    with pytest.raises(ProtocolError, match=f"at most {max_bytes}"):
        decode([header, bytes(max_bytes + 1)])


def test_frames_and_events_are_bounded():
    with pytest.raises(ProtocolError, match=f"at most {MAX_FRAMES} frames"):
        decode(encode(Header(Kind.DATA), *[b""] * MAX_FRAMES))
    with pytest.raises(ProtocolError, match=f"at most {MAX_EVENTS} events"):
        decode([patched(encode(Header(Kind.DATA))[0], events=MAX_EVENTS + 1)])


@pytest.mark.parametrize(
    "text", [b"", b"{", b"5", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b'{"message": 5}']
)
def test_text_that_is_none_breaks_the_protocol(text):
    with pytest.raises(ProtocolError, match="ERROR"):
        unpack_json([memoryview(text)], dict[str, str], "ERROR")
    with pytest.raises(ProtocolError, match="1 payload frame"):
        unpack_json([], dict[str, str], "ERROR")


def test_bytes_that_are_no_zeromq_at_all(listen, connect):
    """Half a greeting, an endless header, a claim of 2^63 bytes: dropped, memory stays."""
    source = listen(message_bytes=4096)
    host, port = source.socket.endpoint.removeprefix("tcp://").split(":")
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
    hello = greeting + bytes([4, len(ready)]) + ready
    before = ME.memory_info().rss
    noises = (b"\xff", b"GET / HTTP/1.1\r\n" * 1000, bytes(100_000), greeting[:30],
              hello + b"\x02" + struct.pack(">Q", 1 << 63), hello + b"\x02" + b"\xff" * 8,
              hello + b"\x02" + struct.pack(">Q", 1 << 30) + b"x" * 100_000)  # fmt: skip
    for noise in noises:
        with socket.create_connection((host, int(port)), timeout=5) as client:
            try:
                client.sendall(noise)
                time.sleep(0.05)
            except OSError:  # hung up on in the middle
                continue
    other = connect(source, "other")
    begin(source, other)
    assert ME.memory_info().rss - before < (64 << 20)


def test_an_event_counter_at_its_end_wraps(listen, connect):
    source = listen()
    peer = connect(source, "old")
    begin(source, peer, first=2**64 - 1)
    known = source._front_ends.get(b"old")
    peer.send(EventData(Kind.RAW, 1, 0, 2**64 - 1, 2).to_header(), b"x")  # refused by Python
    source.serve(lambda: known.next_event == 1)
    assert sum(rejected.events for rejected in source.losses().invalid) == 2
    peer.send(*raw(1, 3))  # taken by the kernel
    source.serve(lambda: source.available().events == 3)
    assert known.next_event == 4
    peer.send(EndOfRun(4, 1).to_header())
    _, header, _ = answers(source, peer, Kind.ACK)
    assert EventAck.from_header(header).next_event == 4
    assert source.losses().lost == 0
