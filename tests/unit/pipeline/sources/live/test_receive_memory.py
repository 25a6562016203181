"""What waits for a live source is bounded in bytes, whatever the size of an event; none is lost."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.sources.live import backlog as backlogs
from sluice.pipeline.sources.live.backlog import RaggedBacklog, RecordBacklog
from sluice.pipeline.transport.codec import pack_schema, record_dtype
from sluice.pipeline.transport.front_end_messages import BeginOfRun, EventData
from sluice.pipeline.transport.protocol import Kind, Limits

IMAGE_BYTES, EVENTS = 1 << 20, 40
RECORD = Schema((EVENT_ID, T_EVENT, Column("image", "uint8", (IMAGE_BYTES,))))


@pytest.fixture
def columns():
    return {"image": f"uint8[{IMAGE_BYTES}]"}


def message(event):
    record = np.zeros(1, record_dtype(RECORD))
    record["event_id"], record["image"] = 1000 + event, event
    return EventData(Kind.RAW, 1, 0, event, 1).to_header(), record.tobytes()


def test_the_receive_queue_of_a_front_end_is_bounded_in_bytes(listen, connect):
    """A source that does not read keeps a front end of large messages waiting."""
    source = listen(message_bytes=64 << 20, backlog=EVENTS)
    peer = connect(source, limits=Limits(queue=1))
    peer.send(BeginOfRun(0, 1).to_header(), pack_schema(RECORD))
    source.serve(peer.receive)
    sent, last_s = 0, time.monotonic()
    while sent < EVENTS and time.monotonic() - last_s < 1:
        if peer.send(*message(sent)):
            sent, last_s = sent + 1, time.monotonic()
    # 256 MiB are four messages of the maximum size; some more wait in the sockets.
    assert 4 <= sent <= 10
    found = []
    while len(found) < EVENTS:
        sent += sent < EVENTS and peer.send(*message(sent))
        source.receive()
        if (batch := source.read(4)) is not None:
            for event, image in zip(batch["event_id"], batch["image"], strict=True):
                assert (image == event - 1000).all()
                found.append(int(event))
        assert time.monotonic() - last_s < 30
    assert found == list(range(1000, 1000 + EVENTS))
    losses = source.losses()
    assert (losses.lost, losses.shed, losses.invalid) == (0, 0, [])


def test_a_backlog_of_large_records_is_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(backlogs, "_MAX_BYTES", 10 * record_dtype(RECORD).itemsize)
    backlog = RecordBacklog(RECORD, 1 << 28)
    assert (backlog.free_events, backlog.capacity, backlog.fill) == (10, 20, 0.0)
    for event in range(10):
        assert backlog.fill == event / 10
        backlog.add(memoryview(message(event)[1]), 1)
    assert (backlog.free_events, backlog.fill) == (0, 1.0)
    batch = backlog.take(10)
    assert batch is not None
    assert batch["event_id"].tolist() == list(range(1000, 1010))


def test_a_backlog_of_long_lists_is_full_by_bytes(monkeypatch):
    """So that front ends are asked to pause before events are shed."""
    monkeypatch.setattr(backlogs, "_MAX_BYTES", 1 << 16)
    backlog = RaggedBacklog(1000)
    hits = Ragged.of([np.zeros(4096)] * 3, "float32")
    backlog.add(EventBatch({"event_id": np.arange(3, dtype=np.uint64), "hits": hits}, 3))
    assert 0.75 < backlog.fill < 1
    assert backlog.free_events == 997
    backlog.add(EventBatch({"event_id": np.arange(3, dtype=np.uint64), "hits": hits}, 3))
    assert backlog.fill > 1
    assert backlog.free_events == 0
