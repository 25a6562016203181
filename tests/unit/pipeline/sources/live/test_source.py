"""The ingest socket against well-behaved, broken and hostile front ends, over real sockets."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest

from sluice.kernels.hashing import sample_mask
from sluice.pipeline.config.strict import strict_convert
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.sources.live.source import LiveSource
from sluice.pipeline.tools.emulator.front_end import FrontEndEmulator
from sluice.pipeline.transport import record_receiver
from sluice.pipeline.transport.codec import Codec, pack_schema, record_dtype
from sluice.pipeline.transport.front_end_messages import (
    BeginOfRun,
    Busy,
    EndOfRun,
    EventAck,
    EventData,
)
from sluice.pipeline.transport.protocol import Header, Kind

COLUMNS = {"words": "uint32[12]", "q": "float32"}
RECORD = Schema((EVENT_ID, T_EVENT, Column("words", "uint32", (12,)), Column("q", "float32")))
DTYPE = record_dtype(RECORD)


@pytest.fixture
def columns():
    return COLUMNS


@pytest.fixture(params=["1", "0"], ids=["compiled", "one-by-one"], autouse=True)
def compiled_receive(request, monkeypatch):
    """Every test runs with the compiled receive loop and without: the results are the same."""
    monkeypatch.setenv("SLUICE_COMPILED_RECEIVE", request.param)


def answer(source, peer):
    found = []

    def heard():
        message = peer.receive()
        if message and message[1].kind not in (Kind.HELLO, Kind.HEARTBEAT, Kind.BUSY):
            found.append(message)
        return found

    source.serve(heard)
    _, header, payload = found[0]
    return header, [bytes(frame) for frame in payload]


def begin(source, peer, first=0):
    peer.send(BeginOfRun(first, 3).to_header(), pack_schema(RECORD))
    header, _ = answer(source, peer)
    assert header.kind == Kind.ACK
    assert EventAck.from_header(header).next_event == first


def records(first, count):
    array = np.zeros(count, DTYPE)
    array["event_id"] = np.arange(first, first + count)
    array["words"] = np.arange(count * 12).reshape(count, 12)
    array["q"] = np.arange(count) / 4
    return array


def raw(peer, first, count, payload=None):
    payload = records(first, count).tobytes() if payload is None else payload
    assert peer.send(EventData(Kind.RAW, 3, 0, first, count).to_header(), payload)


def data(peer, first, count, payload=None):
    array = records(first, count)
    batch = EventBatch({n: np.ascontiguousarray(array[n]) for n in RECORD.names}, count)
    payload = Codec(RECORD).pack(batch) if payload is None else payload
    assert peer.send(EventData(Kind.DATA, 3, 0, first, count).to_header(), payload)


class Received:
    """Everything a source gave and could not give."""

    def __init__(self, source):
        self.source = source
        self.ids, self.invalid, self.lost, self.shed = [], [], 0, 0

    def collect(self):
        batch = self.source.read(10_000)
        if batch is not None:
            batch.check(self.source.schema, "live")
            self.ids += batch["event_id"].tolist()
        losses = self.source.losses()
        self.invalid += losses.invalid
        self.lost += losses.lost
        self.shed += losses.shed
        return self

    def until(self, check):
        self.source.serve(lambda: check(self.collect()))
        return self


def end(source, peer, first):
    peer.send(EndOfRun(first, 3).to_header())
    return answer(source, peer)[0]


def test_events_come_out_as_they_went_in(listen, connect):
    source = listen()
    peer = connect(source)
    begin(source, peer)
    raw(peer, 0, 3)
    data(peer, 3, 5)
    raw(peer, 8, 0, b"")
    raw(peer, 8, 1)
    source.serve(lambda: source.available().events == 9)
    before = time.monotonic_ns()
    batch = source.read(100)
    batch.check(source.schema, "live")
    assert batch["event_id"].tolist() == list(range(9))
    wanted = np.concatenate([records(0, 3), records(3, 5), records(8, 1)])
    for name in RECORD.names:
        np.testing.assert_array_equal(batch[name], wanted[name])
    assert ((batch["t_ingest"] > before - 10**10) & (batch["t_ingest"] <= before)).all()
    assert EventAck.from_header(end(source, peer, 9)).next_event == 9
    losses = source.losses()
    assert (losses.invalid, losses.lost, losses.shed) == ([], 0, 0)
    source.stop()
    assert source.exhausted


def test_gaps_are_counted_as_lost_also_at_the_end(listen, connect):
    source = listen()
    peer = connect(source)
    begin(source, peer)
    raw(peer, 0, 2)
    raw(peer, 5, 2)  # 2, 3, 4 are missing
    data(peer, 10, 1)  # 7, 8, 9 too
    received = Received(source).until(lambda t: len(t.ids) == 5)
    assert received.ids == [0, 1, 5, 6, 10]
    assert received.lost == 6
    header = end(source, peer, 15)
    assert header.kind == Kind.ACK
    assert EventAck.from_header(header).next_event == 15
    assert received.collect().lost == 10


def test_a_counter_may_start_anywhere(listen, connect):
    source = listen()
    peer = connect(source)
    begin(source, peer, first=2**40)
    raw(peer, 2**40, 2)
    received = Received(source).until(lambda t: len(t.ids) == 2)
    assert received.lost == 0


@pytest.mark.parametrize("first", [0, 3, 4])
def test_repeated_and_backward_events_are_dropped(listen, connect, first):
    source = listen()
    peer = connect(source)
    begin(source, peer)
    raw(peer, 0, 5)
    raw(peer, first, 2)
    raw(peer, 5, 1)
    received = Received(source).until(lambda t: len(t.ids) == 6)
    assert received.ids == [0, 1, 2, 3, 4, 5]
    (bad,) = received.invalid
    assert bad.events == 0  # nothing that was not seen before
    assert "expected event 5 or later" in bad.reason
    assert f"got {first}" in bad.reason
    assert received.lost == 0


def test_a_jump_that_cannot_be_true_is_no_loss(listen, connect):
    source = listen()
    peer = connect(source)
    begin(source, peer)
    raw(peer, 2**64 - 1, 1)
    raw(peer, 0, 1)
    received = Received(source).until(lambda t: t.ids and t.invalid)
    assert received.lost == 0
    assert received.ids == [0]


@pytest.mark.parametrize("size", [0, 1, DTYPE.itemsize * 2 - 1, DTYPE.itemsize * 2 + 1, 10_000])
def test_raw_messages_of_wrong_size(listen, connect, size):
    source = listen()
    peer = connect(source)
    begin(source, peer)
    raw(peer, 0, 2, bytes(size))
    raw(peer, 2, 1)
    received = Received(source).until(lambda t: t.ids)
    assert received.ids == [2]
    assert received.lost == 0
    (bad,) = received.invalid
    assert bad.events == 2
    assert f"expected {2 * DTYPE.itemsize} bytes for 2 events, got {size}" in bad.reason
    assert bad.payload == bytes(size)
    assert "source 3" in bad.where


@pytest.mark.parametrize("payload", [b"", b"rubbish" * 50, b"\xff\xff\xff\xff" + bytes(200)])
def test_data_that_is_no_record_batch(listen, connect, payload):
    source = listen()
    peer = connect(source)
    begin(source, peer)
    data(peer, 0, 4, payload)
    data(peer, 4, 1)
    received = Received(source).until(lambda t: t.ids)
    assert received.ids == [4]
    assert [bad.events for bad in received.invalid] == [4]


def test_data_with_holes_is_invalid(listen, connect):
    import pyarrow as pa

    source = listen()
    peer = connect(source)
    begin(source, peer)
    arrays = [
        pa.array([0, None], pa.uint64()), pa.array([0, 1], pa.int64()),
        pa.FixedSizeListArray.from_arrays(pa.array([0] * 24, pa.uint32()), 12),
        pa.array([0, 1], pa.float32()),
    ]  # fmt: skip
    holes = pa.RecordBatch.from_arrays(arrays, names=list(RECORD.names))
    data(peer, 0, 2, holes.serialize())
    raw(peer, 2, 1)
    received = Received(source).until(lambda t: t.ids)
    assert received.ids == [2]
    assert [bad.events for bad in received.invalid] == [2]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (Schema((EVENT_ID, T_EVENT, Column("words", "uint32", (13,)), Column("q", "float32"))),
         ("'words'", "expected uint32[12]", "got uint32[13]")),
        (Schema((EVENT_ID, T_EVENT, Column("words", "uint32", (12,)))),
         ("'q'", "expected float32", "got no such column")),
        (RECORD.merge([Column("more", "int8")]), ("more",)),
        (Schema([*RECORD][::-1]), ("order",)),
        (Schema(), ("'event_id'",)),
    ],
)  # fmt: skip
def test_another_record_type_is_refused_with_an_answer(listen, connect, schema, words):
    source = listen()
    peer = connect(source)
    peer.send(Header(Kind.BOR), pack_schema(schema))
    header, payload = answer(source, peer)
    assert header.kind == Kind.ERROR
    message = json.loads(payload[0])["message"]
    for word in words:
        assert word in message
    raw(peer, 0, 1)  # and its events are not taken
    received = Received(source).until(lambda t: len(t.invalid) == 2)
    assert received.ids == []
    assert all(bad.events == 0 for bad in received.invalid)


@pytest.mark.parametrize("payload", [(), (b"",), (b"rubbish",), "strings"])
def test_a_begin_of_run_that_is_none_is_answered(listen, connect, payload):
    import pyarrow as pa

    if payload == "strings":
        payload = (pa.schema([pa.field("event_id", pa.string())]).serialize(),)
    source = listen()
    peer = connect(source)
    peer.send(Header(Kind.BOR), *payload)
    header, text = answer(source, peer)
    assert header.kind == Kind.ERROR
    assert json.loads(text[0])["message"]
    begin(source, peer)  # it may try again


def test_messages_before_the_begin_and_of_other_kinds_are_counted(listen, connect):
    source = listen()
    peer = connect(source)
    raw(peer, 0, 5)
    peer.send(EndOfRun(5).to_header())
    received = Received(source).until(lambda t: len(t.invalid) == 2)
    assert all("expected BOR first" in bad.reason for bad in received.invalid)
    begin(source, peer)
    for kind in (Kind.CREDIT, Kind.RESULT, Kind.STOP, Kind.HELLO):
        peer.send(Header(kind))
    received.until(lambda t: len(t.invalid) == 6)
    raw(peer, 0, 1)
    assert received.until(lambda t: t.ids).ids == [0]
    assert "'fe'" in received.invalid[0].where


def test_garbage_frames_are_counted_and_survived(listen, connect):
    """What speaks ZeroMQ but not our protocol."""
    source = listen()
    peer = connect(source)
    begin(source, peer)
    for frames in ([b""], [b"x"], [b"\0" * 64], [b"\xff" * 500, b"y"], [b"SLCE" + b"\xff" * 60]):
        peer._socket.send_multipart(frames)
    raw(peer, 0, 1)
    received = Received(source).until(lambda t: t.ids)
    assert received.ids == [0]
    assert len(received.invalid) == 5
    assert all(bad.events == 0 for bad in received.invalid)


def test_full_backlog_sheds_and_counts(listen, connect):
    source = listen(backlog=10)
    peer = connect(source)
    begin(source, peer)
    raw(peer, 0, 7)
    raw(peer, 7, 7)  # four of these do not fit
    raw(peer, 14, 2)
    received = Received(source)
    shed = 0

    def all_taken():
        nonlocal shed
        shed += source.losses().shed
        return shed == 6

    source.serve(all_taken)
    assert received.collect().ids == list(range(10))
    raw(peer, 16, 3)  # there is space again
    received.until(lambda t: len(t.ids) == 13)
    assert received.ids[10:] == [16, 17, 18]
    assert received.lost == received.shed == 0
    assert EventAck.from_header(end(source, peer, 19)).next_event == 19


def test_shedding_spares_what_the_pass_through_draws(listen, connect):
    source = listen(backlog=100)
    source.protect(0.1, 77)
    drawn = np.empty(2000, np.bool_)
    sample_mask(np.arange(2000, dtype=np.uint64), 77, 0.1, drawn)
    peer = connect(source)
    begin(source, peer)
    for first in range(0, 800, 200):
        raw(peer, first, 200)
    received = Received(source)
    shed = 0

    def all_seen():
        nonlocal shed
        shed += source.losses().shed
        return shed + source.available().events == 800

    source.serve(all_seen)
    ids = received.collect().ids
    assert ids == list(range(100)) + [i for i in range(100, 800) if drawn[i]]
    assert shed == 800 - len(ids)


def test_what_is_spared_is_bounded_too(listen, connect):
    source = listen(backlog=10)
    source.protect(1.0, 1)
    peer = connect(source)
    begin(source, peer)
    raw(peer, 0, 15)
    raw(peer, 15, 15)
    source.serve(lambda: source.available().events == 20)
    received = Received(source).collect()
    assert received.ids == list(range(20))
    assert received.shed == 10


def busy_words(peer):
    words = []
    while message := peer.receive():
        if message[1].kind == Kind.BUSY:
            words.append(int(Busy.from_header(message[1]).pause))
    return words


def test_a_filling_backlog_raises_busy_and_an_empty_one_ends_it(listen, connect):
    source = listen(backlog=100)
    one, two = connect(source, "one"), connect(source, "two")
    begin(source, one)
    raw(one, 0, 75)
    source.serve(lambda: source.available().events == 75)
    time.sleep(0.05)
    assert busy_words(one) == []
    raw(one, 75, 1)
    source.serve(lambda: source.available().events == 76)
    begin(source, two)  # who comes later hears of it too
    time.sleep(0.05)
    assert busy_words(one) == [1]
    assert busy_words(two) == [1]
    assert source.read(50).events == 50
    time.sleep(0.05)
    assert busy_words(one) == []
    assert source.read(10).events == 10
    time.sleep(0.05)
    assert busy_words(one) == busy_words(two) == [0]


def test_the_backlog_is_a_ring_that_keeps_order(listen, connect):
    source = listen(backlog=8)
    peer = connect(source)
    begin(source, peer)
    given, sent = [], 0
    for size in (5, 3, 4, 6, 2, 7, 1, 5):
        raw(peer, sent, size)
        sent += size
        source.serve(lambda sent=sent: source._front_ends.get(b"fe").next_event == sent)
        batch = source.read(size)
        given += batch["event_id"].tolist()
    assert given == list(range(sent))
    assert source.losses().shed == 0


def test_two_front_ends_have_counters_of_their_own(listen, connect):
    source = listen()
    one, two = connect(source, "one"), connect(source, "two")
    begin(source, one)
    begin(source, two, first=100)
    raw(one, 0, 2)
    raw(two, 100, 2)
    raw(one, 2, 1)
    received = Received(source).until(lambda t: len(t.ids) == 5)
    assert sorted(received.ids) == [0, 1, 2, 100, 101]
    assert received.lost == 0
    assert EventAck.from_header(end(source, one, 3)).next_event == 3
    raw(two, 102, 1)
    assert received.until(lambda t: len(t.ids) == 6).lost == 0


def test_what_waits_is_reported_with_the_age_of_the_oldest(listen, connect):
    source = listen()
    peer = connect(source)
    begin(source, peer)
    assert source.available() == (0, 0, math.inf)
    before = time.monotonic_ns()
    raw(peer, 0, 2)
    source.serve(lambda: source.available().events == 2)
    oldest = source.available().oldest_ns
    assert before < oldest <= time.monotonic_ns()
    raw(peer, 2, 1)
    source.serve(lambda: source.available().events == 3)
    assert source.available().oldest_ns == oldest
    batch = source.read(2)
    assert batch["t_ingest"][0] == oldest
    assert source.available().events == 1
    assert source.available().oldest_ns > oldest


def test_stop_takes_what_has_arrived_and_no_more(listen, connect):
    source = listen()
    peer = connect(source)
    begin(source, peer)
    for first in range(50):
        raw(peer, first, 1)
    deadline = time.monotonic() + 2
    while not source.socket.poll(0.1) and time.monotonic() < deadline:
        pass
    time.sleep(0.1)
    source.stop()
    raw(peer, 50, 1)
    time.sleep(0.1)
    source.receive()
    received = Received(source).collect()
    assert received.ids == list(range(50))
    assert source.exhausted


@pytest.mark.parametrize("per_message", [1, 7, 100])
def test_the_emulator_is_understood(listen, per_message):
    import threading

    source = listen()
    array = records(0, 10)
    batch = EventBatch({name: array[name] for name in RECORD.names}, 10)
    front_end = FrontEndEmulator(source.socket.endpoint, batch, RECORD)
    sent = []
    thread = threading.Thread(
        target=lambda: sent.append(front_end.run(50_000, 100, per_message)), name="front-end"
    )
    thread.start()
    try:
        received = Received(source).until(lambda t: sent)
    finally:
        thread.join(5)
        front_end.close()
    assert received.collect().ids == list(range(100))
    assert sent[0].events == sent[0].acknowledged == 100
    assert sent[0].messages == -(-100 // per_message)
    assert received.lost == received.shed == 0


@pytest.mark.parametrize(
    "options",
    [
        {"columns": {"x": "object"}},
        {"columns": {"x": "str"}},
        {"columns": {"x": "bool"}},
        {"columns": {"x": "uint32[12"}},
        {"columns": {"x": "uint33"}},
        {"columns": {"x": "complex64"}},
        {"columns": {"x": "datetime64"}},
        {"columns": {"x": 5}},
        {"listen": "tcp://0.0.0.0:5560"},
        {"listen": "tcp://*:5560"},
        {"listen": "garbage"},
        {"listen": "tcp://*:5560", "security": {"plain_tcp": "yes"}},
        {"security": {"key": "k", "plain_tcp": "anyone may connect"}},
        {"security": {"allow": ["k"]}},
        {"security": {"kee": "k"}},
        {"listen": "tcp://192.168.0.1:5560"},
        {"listen": "tcp://127.0.0.1.example.com:5560"},
        {"backlog": 0},
        {"backlog": -5},
        {"lisen": "tcp://127.0.0.1:5560"},
    ],
)
def test_options_that_cannot_be(options):
    with pytest.raises(ConfigError, match=r"here|source"):
        LiveSource(
            "source", strict_convert({"columns": COLUMNS, **options}, LiveSource.Options, "here")
        )


def test_addresses_that_cannot_be_listened_on(tmp_path):
    for endpoint in ("ipc:///nowhere/at/all", "tcp://127.0.0.1:x"):
        source = LiveSource("source", LiveSource.Options(columns=COLUMNS, listen=endpoint))
        with pytest.raises(ConfigError, match="cannot listen"):
            source.open()
        source.close()


class Waiting:
    """A receiver with plain messages of one event that have all arrived."""

    def __init__(self, messages):
        self.messages = messages

    def receive_records(self, block, first, free_records, max_messages):
        taken = min(self.messages, free_records, max_messages)
        self.messages -= taken
        return record_receiver.Received(taken, taken, another=False)

    def close(self):
        pass


def test_one_call_takes_all_that_has_arrived(listen, monkeypatch):
    source = listen()
    monkeypatch.setattr(source, "_receiver", Waiting(3_000))
    source.receive()
    assert source.available().events == 3_000


def test_one_call_ends_in_time(listen, monkeypatch):
    source, waiting = listen(), Waiting(10**9)
    monkeypatch.setattr(source, "_receiver", waiting)
    monkeypatch.setattr("sluice.pipeline.sources.live.source._CALL_S", 0.0)
    source.receive()
    assert source.available().events <= 512
