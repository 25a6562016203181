"""Front ends whose events have lists: record batches over real sockets, sound and broken."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.recording import RecordingWriter
from sluice.pipeline.sources.recording import RecordingSource
from sluice.pipeline.tools.emulator.front_end import FrontEndEmulator
from sluice.pipeline.transport.codec import Codec, pack_schema
from sluice.pipeline.transport.front_end_messages import EventData
from sluice.pipeline.transport.protocol import Header, Kind

COLUMNS = {"hits": "float32[<=6,2]", "q": "float32"}
RECORD = Schema((EVENT_ID, T_EVENT, Column("hits", "float32", (None, 2)), Column("q", "float32")))


@pytest.fixture
def columns():
    return COLUMNS


@pytest.fixture
def begun(listen, connect):
    """Connect a front end that has said BOR."""

    def make(**options):
        source = listen(**options)
        peer = connect(source)
        peer.send(Header(Kind.BOR, source=3), pack_schema(RECORD))
        source.serve(lambda: len(source._front_ends) == 1)
        return source, peer

    return make


def batch_of(counts, first=0):
    """Return events with so many hits, which tell of the event and of their place."""
    hits = [[(first + row, place) for place in range(n)] for row, n in enumerate(counts)]
    columns = {
        "event_id": np.arange(first, first + len(counts), dtype=np.uint64),
        "t_event": np.zeros(len(counts), np.int64),
        "hits": Ragged.of(hits, "float32", (2,)),
        "q": np.ones(len(counts), np.float32),
    }
    return EventBatch(columns, len(counts))


def send(peer, batch, first, payload=None, kind=Kind.DATA):
    payload = Codec(RECORD).pack(batch) if payload is None else payload
    assert peer.send(EventData(kind, 3, 0, first, batch.events).to_header(), payload)


def test_lists_come_out_as_they_went_in(begun):
    source, peer = begun()
    counts = [2, 0, 6, 1, 0, 0, 5]
    send(peer, batch_of(counts[:3]), 0)
    send(peer, batch_of([]), 3)
    send(peer, batch_of(counts[3:], 3), 3)
    source.serve(lambda: source.available().events == 7)
    before = time.monotonic_ns()
    got = []
    while (batch := source.read(2)) is not None:
        batch.check(source.schema, "live")
        assert (batch["t_ingest"] <= before).all()
        got += batch["hits"].tolist()
    assert got == batch_of(counts)["hits"].tolist()
    assert source.available().events == 0
    source.stop()
    assert source.exhausted


def test_events_with_too_many_items_are_refused_one_by_one(begun):
    source, peer = begun()
    send(peer, batch_of([1, 7, 6, 100]), 0)
    source.serve(lambda: source.available().events == 2)
    assert source.read(9)["event_id"].tolist() == [0, 2]
    bad = source.losses().invalid
    assert [b.reason for b in bad] == [
        f"column 'hits': expected at most 6 items, got {n}" for n in (7, 100)
    ]
    assert [b.where for b in bad] == [f"source: source 3: event {n}" for n in (1, 3)]
    assert sum(b.events for b in bad) == 2
    # What is quarantined can be read again.
    assert Codec(RECORD).unpack(memoryview(bad[0].payload), 1, 0)["hits"].counts.tolist() == [7]


def test_messages_that_are_broken_are_counted_and_the_next_are_taken(begun):
    source, peer = begun()
    packed = Codec(RECORD).pack(batch_of([2, 2, 2])).to_pybytes()
    sound = np.array([0, 2, 4, 6], np.int32).tobytes()
    assert packed.count(sound) == 1
    broken = packed.replace(sound, np.array([0, 2, 9, 6], np.int32).tobytes())
    send(peer, batch_of([2, 2, 2]), 0, broken)
    send(peer, batch_of([1]), 3, b"x" * 24, Kind.RAW)
    send(peer, batch_of([3], 4), 4)
    source.serve(lambda: source.available().events == 1)
    assert source.read(9)["hits"].tolist() == batch_of([3], 4)["hits"].tolist()
    losses = source.losses()
    assert [b.events for b in losses.invalid] == [3, 1]
    assert "column 'hits': event 1: expected a list within 6 items" in losses.invalid[0].reason
    assert losses.invalid[0].payload == broken
    assert "expected DATA" in losses.invalid[1].reason
    assert losses.lost == 0


def test_a_full_backlog_sheds_all_but_what_is_spared(begun):
    source, peer = begun(backlog=10)
    source.protect(1.0, 0)  # as a menu would that passes all through
    send(peer, batch_of([1] * 8), 0)
    send(peer, batch_of([1] * 8, 8), 8)
    source.serve(lambda: source.available().events == 16)
    send(peer, batch_of([1] * 8, 16), 16)
    source.serve(lambda: source.available().events == 20)
    assert source.losses().shed == 4
    source.protect(0.0, 0)
    send(peer, batch_of([1] * 8, 24), 24)
    source.serve(lambda: source._losses.shed == 8)
    assert source.read(100)["event_id"].tolist() == list(range(20))


@pytest.mark.parametrize("per_message", [1, 7])
def test_the_emulator_sends_lists(listen, per_message):
    source = listen()
    events = batch_of([2, 0, 6])
    front_end = FrontEndEmulator(source.socket.endpoint, events, RECORD, first_id=100)
    sent = []
    thread = threading.Thread(target=lambda: sent.append(front_end.run(50_000, 50, per_message)))
    thread.start()
    try:
        source.serve(lambda: sent)
    finally:
        thread.join(5)
        front_end.close()
    batch = source.read(100)
    assert batch["event_id"].tolist() == list(range(100, 150))
    expected = [events["hits"][row % 3].tolist() for row in range(50)]
    assert batch["hits"].tolist() == expected
    assert sent[0].acknowledged == 50


def test_the_emulator_says_which_message_is_too_long(listen):
    source = listen(message_bytes=4096, columns={**COLUMNS, "hits": "float32[*,2]"})
    front_end = FrontEndEmulator(source.socket.endpoint, batch_of([1000]), RECORD)
    failure = []

    def run():
        try:
            front_end.run(1000, 5)
        except RunError as error:
            failure.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        source.serve(lambda: failure)
    finally:
        thread.join(5)
        front_end.close()
    assert "takes messages of at most 4096 bytes" in failure[0]


def test_a_recording_with_too_long_lists_gives_the_others(tmp_path):
    """As one may that another program has written, or somebody with other limits."""
    column = Column("hits", "float32", (None, 2), max_items=6)
    with RecordingWriter(tmp_path / "r.arrows", Schema((EVENT_ID, T_EVENT, column))) as writer:
        writer.write(batch_of([1, 7, 2, 6, 8]))
        writer.write(batch_of([9, 0], 5))
    source = RecordingSource("source", RecordingSource.Options(path=str(tmp_path / "r.arrows")))
    source.open()
    ids, bad = [], []
    while not source.exhausted:
        batch = source.read(2)
        bad += source.losses().invalid
        ids += batch["event_id"].tolist() if batch else []
    source.close()
    assert ids == [0, 2, 3, 6]
    assert [b.where for b in bad] == [f"r.arrows: event {n}" for n in (1, 4, 5)]
    assert bad[0].reason == "column 'hits': expected at most 6 items, got 7"
    assert source.corruption is None
