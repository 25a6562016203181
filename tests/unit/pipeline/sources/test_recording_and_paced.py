"""Recordings in batches of any size, and a source slowed down to a rate."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, T_INGEST, Column, Schema
from sluice.pipeline.recording import RecordingWriter
from sluice.pipeline.sources.base import UNLIMITED, Losses
from sluice.pipeline.sources.paced import PacedSource
from sluice.pipeline.sources.recording import RecordingSource

Q = Column("q", "float32")


@pytest.fixture
def record(tmp_path):
    """Write a recording of batches of these sizes; return a source of it, open."""
    sources = []

    def make(*sizes, schema=None, info=None):
        schema = schema or Schema((EVENT_ID, T_EVENT, Q))
        path = tmp_path / f"r{len(sources)}.arrows"
        first = 0
        with RecordingWriter(path, schema, info) as writer:
            for seq, size in enumerate(sizes):
                columns = {c.name: np.arange(first, first + size).astype(c.dtype) for c in schema}
                writer.write(EventBatch(columns, size, seq))
                first += size
        source = RecordingSource("source", RecordingSource.Options(str(path)))
        source.open()
        sources.append(source)
        return source

    yield make
    for source in sources:
        source.close()


def drain(source, max_events):
    batches = []
    while not source.exhausted:
        assert source.available().events >= max_events
        batch = source.read(max_events)
        if batch is not None:
            batch.check(source.schema, "source")
            batches.append(batch)
    assert source.read(max_events) is None
    assert source.available().events == 0
    return batches


@pytest.mark.parametrize("max_events", [1, 4, 100])
def test_a_recording_can_be_read_again_and_again(record, tmp_path, max_events):
    once = drain(record(3, 2), 100)[0]
    options = RecordingSource.Options(str(tmp_path / "r0.arrows"), repeat=3)
    source = RecordingSource("source", options)
    source.open()
    try:
        got = np.concatenate([batch["event_id"] for batch in drain(source, max_events)])
    finally:
        source.close()
    assert got.tolist() == once["event_id"].tolist() * 3


def test_an_empty_recording_ends_however_often_it_is_to_be_read(record, tmp_path):
    record()
    options = RecordingSource.Options(str(tmp_path / "r0.arrows"), repeat=1 << 40)
    source = RecordingSource("source", options)
    source.open()
    assert drain(source, 10) == []
    source.close()


@pytest.mark.parametrize("max_events", [1, 4, 7, 10, 100])
def test_batches_of_the_size_asked_for(record, max_events):
    source = record(3, 0, 10, 1, 7, 0)
    batches = drain(source, max_events)
    sizes = [batch.events for batch in batches]
    assert sum(sizes) == 21
    assert all(size == max_events for size in sizes[:-1])
    assert np.concatenate([batch["q"] for batch in batches]).tolist() == list(range(21))
    assert source.corruption is None


def test_reserved_columns_are_added_where_they_lack(record):
    source = record(5, 5, schema=Schema((Q,)))
    batches = drain(source, 4)
    assert np.concatenate([b["event_id"] for b in batches]).tolist() == list(range(10))
    assert all((b["t_event"] == 0).all() for b in batches)
    now = time.monotonic_ns()
    assert all(((b["t_ingest"] <= now) & (b["t_ingest"] > now - 10**10)).all() for b in batches)


def test_recorded_ids_are_kept_and_ingest_times_are_not(record):
    source = record(5, schema=Schema((EVENT_ID, T_EVENT, T_INGEST, Q)))
    (batch,) = drain(source, 100)
    assert batch["event_id"].tolist() == [0, 1, 2, 3, 4]
    assert (batch["t_ingest"] > 10).all()


@pytest.mark.parametrize("column", [Column("event_id", "int32"), Column("event_id", "uint64", (2,)),
                                    Column("t_event", "float64")])  # fmt: skip
def test_reserved_columns_of_another_type_are_refused(tmp_path, column):
    schema = Schema((column,))
    path = tmp_path / "r.arrows"
    with RecordingWriter(path, schema) as writer:
        writer.write(EventBatch({column.name: np.zeros_like(column.empty(3))}, 3))
    source = RecordingSource("source", RecordingSource.Options(str(path)))
    with pytest.raises(DataError, match=rf"'{column.name}': expected u?int64, got"):
        source.open()


def test_expected_events_come_from_the_recording(record):
    assert record(5, info={"events": 5}).expected == 5
    assert record(5, info={"events": "many"}).expected is None
    assert record(5).expected is None


def test_stop_reads_no_further(record):
    source = record(10, 10)
    assert source.read(4).events == 4
    source.stop()
    assert source.exhausted
    assert source.read(4) is None


def test_recording_without_events(record):
    source = record(0)
    assert drain(source, 10) == []
    assert source.losses() == Losses()


class Counting:
    """A source of numbered events without end, or of so many."""

    damage = expected = socket = None
    schema = Schema((EVENT_ID, T_INGEST))

    def __init__(self, events=10**9):
        self.left = events
        self.given = 0
        self.calls = []

    @property
    def exhausted(self):
        return self.left == 0

    def waiting(self):
        return UNLIMITED

    def read(self, max_events):
        self.calls.append(max_events)
        count = min(max_events, self.left)
        if not count:
            return None
        ids = np.arange(self.given, self.given + count, dtype=np.uint64)
        self.given += count
        self.left -= count
        return EventBatch({"event_id": ids, "t_ingest": np.zeros(count, np.int64)}, count)

    def open(self):
        pass

    def receive(self):
        pass

    def stop(self):
        self.left = 0

    def losses(self):
        return Losses(lost=3)

    def close(self):
        pass


class Clock:
    """Time that a test sets."""

    def __init__(self, monkeypatch):
        self.now = 5_000_000_000
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.now)

    def forward(self, seconds):
        self.now += round(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_paced_events_come_when_they_are_due(clock):
    source = PacedSource(Counting(), 1000)
    assert source.read(100).events == 1
    assert source.read(100) is None
    waiting = source.available()
    assert waiting.events == 0
    assert waiting.next_in_s == pytest.approx(0.001)
    clock.forward(0.0105)
    batch = source.read(100)
    assert batch["event_id"].tolist() == list(range(1, 11))
    due = 5_000_000_000 + np.arange(1, 11) * 1_000_000
    np.testing.assert_allclose(batch["t_ingest"], due, atol=1)


def test_paced_lateness_counts_into_the_latency(clock):
    """An event that waits for the pipeline is as old as if a detector had sent it in time."""
    source = PacedSource(Counting(), 1000)
    source.read(1)
    clock.forward(1)
    batch = source.read(100)
    assert batch.events == 100
    assert clock.now - batch["t_ingest"][0] == pytest.approx(0.999e9, rel=1e-6)
    total = 1 + 100
    while (batch := source.read(100)) is not None:
        total += batch.events
    assert total == 1001


def test_paced_tells_what_is_due_and_since_when(clock):
    source = PacedSource(Counting(), 1000)
    assert source.available() == (1, clock.now, 0.001)
    assert source.read(100).events == 1
    begun = clock.now
    clock.forward(0.0055)
    waiting = source.available()
    assert (waiting.events, waiting.oldest_ns) == (5, begun + 1_000_000)
    assert source.read(2)["t_ingest"][0] == waiting.oldest_ns
    assert source.available().oldest_ns == begun + 3_000_000


def test_paced_ends_with_its_source(clock):
    inner = Counting(3)
    source = PacedSource(inner, 1000)
    clock.forward(1)
    assert source.read(100).events == 1  # time begins with the first call
    clock.forward(1)
    assert source.read(100).events == 2
    assert source.exhausted
    assert source.available() == (0, 0, math.inf)
    assert source.read(100) is None
    assert source.losses().lost == 3
    assert source.schema is inner.schema


def test_paced_stop(clock):
    source = PacedSource(Counting(), 10)
    source.read(1)
    source.stop()
    assert source.exhausted
    clock.forward(10)
    assert source.read(10) is None
