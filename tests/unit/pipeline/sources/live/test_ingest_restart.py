"""Ingest goes away and comes back: front ends go on, and what nobody saw is lost, counted once."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.tools.emulator.front_end import FrontEndEmulator
from sluice.pipeline.transport.codec import pack_schema
from sluice.pipeline.transport.front_end_messages import EventAck, EventData
from sluice.pipeline.transport.protocol import Header, Kind

RECORD = Schema((EVENT_ID, T_EVENT, Column("q", "float32")))
EVENTS = EventBatch({c.name: np.zeros_like(c.empty(10)) for c in RECORD}, 10)


def collect(source, ids, until, timeout=20.0):
    """Serve until something is so; events go to `ids`, the losses are returned."""
    lost = 0

    def enough():
        nonlocal lost
        batch = source.read(100_000)
        if batch is not None:
            ids.extend(batch["event_id"].tolist())
        lost += source.losses().lost
        return until()

    source.serve(enough, timeout)
    return lost


@pytest.fixture
def sender(tmp_path):
    """A front end that sends 4,000 events in two seconds; what it said at the end."""
    endpoint = f"ipc://{tmp_path}/ingest"
    said = []

    def run():
        front_end = FrontEndEmulator(endpoint, EVENTS, RECORD)
        try:
            said.append(front_end.run(2_000, 4_000, 5))
        except Exception as error:
            said.append(error)
        finally:
            front_end.close()

    thread = threading.Thread(target=run, name="front-end")
    yield endpoint, thread, said
    thread.join(15)


def test_a_stop_and_a_start_lose_exactly_what_was_sent_between(sender, listen):
    endpoint, thread, said = sender
    first = listen(listen=endpoint)
    before, after = [], []
    thread.start()
    lost = collect(first, before, lambda: len(before) >= 500)
    first.stop()
    collect(first, before, lambda: first.exhausted)
    time.sleep(0.1)  # a run drains now: the last message gets through before the socket closes
    first.close()
    time.sleep(0.3)
    second = listen(listen=endpoint)
    lost += collect(second, after, lambda: said)
    lost += collect(second, after, lambda: not second.socket.poll(0.1))
    sent = said[0]
    assert not isinstance(sent, Exception), sent
    assert sent.acknowledged == 4_000
    assert sent.restarts == 1
    assert lost > 0
    assert len(set(before) & set(after)) == 0
    assert len(before) + len(after) + lost == 4_000


def test_a_kill_counts_no_more_than_a_second_too_much(sender, listen):
    endpoint, thread, said = sender
    first = listen(listen=endpoint)
    before, after = [], []
    thread.start()
    lost = collect(first, before, lambda: len(before) >= 1_000)
    first.close()  # says nothing to anybody
    time.sleep(0.2)
    second = listen(listen=endpoint)
    lost += collect(second, after, lambda: said)
    lost += collect(second, after, lambda: not second.socket.poll(0.1))
    sent = said[0]
    assert not isinstance(sent, Exception), sent
    assert sent.acknowledged == 4_000
    counted = len(before) + len(after) + lost
    assert 4_000 <= counted <= 4_000 + 2_000 * 1.5
    assert sorted(set(before + after)) == sorted(before + after)


def test_ingest_tells_how_far_it_understood(listen, connect):
    source = listen()
    peer = connect(source)
    acknowledged = []

    def heard():
        message = peer.receive()
        if message and message[1].kind == Kind.ACK:
            acknowledged.append(EventAck.from_header(message[1]).next_event)
        return acknowledged and acknowledged[-1] == 30

    peer.send(Header(Kind.BOR, source=1), pack_schema(RECORD))
    for first in range(0, 30, 10):
        peer.send(EventData(Kind.RAW, 1, 0, first, 10).to_header(), bytes(200))
    ids = []
    collect(source, ids, lambda: len(ids) == 30)
    source.stop()
    deadline = time.monotonic() + 3
    while not heard():
        assert time.monotonic() < deadline
        peer.poll(0.05)
    assert acknowledged[0] == 0


def test_an_unknown_front_end_is_asked_to_begin(listen, connect):
    source = listen()
    peer = connect(source)
    answers = []

    def answered():
        answers.append(peer.receive())
        return answers[-1] is not None

    peer.send(EventData(Kind.RAW, 1, 0, 7, 1).to_header(), bytes(20))
    source.serve(answered, 3)
    assert answers[-1][1].kind == Kind.HELLO
    (refused,) = source.losses().invalid
    assert refused.events == 0
