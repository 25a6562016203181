"""The emulated front end keeps its rate: evenly, to the last event, without a core of its own."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Schema
from sluice.pipeline.tools.emulator.front_end import FrontEndEmulator
from sluice.pipeline.transport.codec import record_dtype
from sluice.pipeline.transport.front_end_messages import BeginOfRun, Busy, EventAck, EventData
from sluice.pipeline.transport.poller import Poller
from sluice.pipeline.transport.protocol import Kind
from sluice.pipeline.transport.socket import Socket

RECORD = Schema((EVENT_ID, T_EVENT))


class Listener:
    """Acknowledges what a front end sends, and keeps it."""

    def __init__(self, endpoint):
        self.socket = Socket(endpoint)
        self.messages = []
        self.done = threading.Event()

    def serve(self):
        poller = Poller([self.socket])
        deadline = time.monotonic() + 20
        while not self.done.is_set() and time.monotonic() < deadline:
            poller.poll(0.01)
            while message := self.socket.receive():
                peer, header, payload = message
                if header.kind in (Kind.BOR, Kind.EOR):
                    self.socket.send(
                        EventAck(BeginOfRun.from_header(header).next_event).to_header(), to=peer
                    )
                    self.done.set() if header.kind == Kind.EOR else None
                else:
                    self.messages.append((header, bytes(payload[0])))


@pytest.fixture
def send(tmp_path):
    """Run a front end against a listener; return what it says and what came."""

    def run(*args, **kwargs):
        listener = Listener(f"ipc://{tmp_path}/in")
        thread = threading.Thread(target=listener.serve, name="listener")
        columns = {"event_id": np.zeros(7, np.uint64), "t_event": np.zeros(7, np.int64)}
        front_end = FrontEndEmulator(listener.socket.endpoint, EventBatch(columns, 7), RECORD)
        thread.start()
        try:
            return front_end.run(*args, **kwargs), listener.messages
        finally:
            thread.join(25)
            front_end.close()
            listener.socket.close()

    return run


def test_messages_are_spread_over_the_time(send):
    before_ns = time.time_ns()
    sent, messages = send(20_000, 10_000)
    events = np.concatenate([np.frombuffer(p, record_dtype(RECORD)) for _, p in messages])
    assert events["event_id"].tolist() == list(range(10_000))
    assert sent.seconds > 0.4
    # An event is stamped with the time at which it was due, however late a busy machine sends it.
    since_ns = events["t_event"] - before_ns
    assert -1_000_000 < since_ns[0] < 20e9
    np.testing.assert_array_equal(since_ns - since_ns[0], 50_000 * np.arange(10_000))


def test_a_front_end_that_was_held_up_stamps_as_if_it_had_not_been(send, monkeypatch):
    slept = time.sleep
    monkeypatch.setattr(time, "sleep", lambda s: slept(max(s, 0.05)))
    _, messages = send(1_000, 200)
    events = np.concatenate([np.frombuffer(p, record_dtype(RECORD)) for _, p in messages])
    assert np.diff(events["t_event"]).tolist() == [1_000_000] * 199


def test_all_events_of_a_message_are_due_with_the_last(send):
    _, messages = send(10_000, 25, per_message=10)
    events = np.concatenate([np.frombuffer(p, record_dtype(RECORD)) for _, p in messages])
    after_ns = events["t_event"] - events["t_event"][0]
    assert after_ns.tolist() == [0] * 10 + [1_000_000] * 10 + [1_500_000] * 5


def test_a_rate_is_kept_on_the_whole(send):
    sent, _ = send(1_000, 1_000)
    assert 0.95 < sent.seconds < 15


def test_a_rate_below_the_tick_is_kept_to_the_event(send):
    sent, messages = send(500, 50)
    assert len(messages) == 50
    assert sent.seconds > 0.095


def test_it_sleeps_between_the_messages(send):
    started, cpu = time.monotonic(), time.thread_time()
    send(1_000, 500)
    assert time.thread_time() - cpu < 0.5 * (time.monotonic() - started)


@pytest.mark.parametrize("events", [1, 9, 10, 11, 25])
def test_only_the_last_message_is_short(send, events):
    sent, messages = send(100_000, events, per_message=10)
    sizes = [header.events for header, _ in messages]
    assert sizes == [10] * (events // 10) + [events % 10] * (events % 10 > 0)
    assert [EventData.from_header(header).first_event for header, _ in messages] == list(
        range(0, events, 10)
    )
    assert [header.seq for header, _ in messages] == list(range(len(sizes)))
    assert sent.events == sent.acknowledged == events


def test_progress_is_reported_at_the_end(send):
    reported = []
    send(100_000, 100, progress=lambda sent: reported.append(sent.events))
    assert reported[-1] == 100


def test_busy_pauses_the_front_end_and_what_it_vetoed_is_in_no_counter(tmp_path):
    socket = Socket(f"ipc://{tmp_path}/in")
    columns = {"event_id": np.zeros(7, np.uint64), "t_event": np.zeros(7, np.int64)}
    front_end = FrontEndEmulator(socket.endpoint, EventBatch(columns, 7), RECORD)
    said = []
    thread = threading.Thread(target=lambda: said.append(front_end.run(1_000, 1_000)), name="fe")
    thread.start()
    firsts, busy_at, before = [], 0.0, 0
    deadline = time.monotonic() + 20
    try:
        while not said and time.monotonic() < deadline:
            socket.poll(0.01)
            while message := socket.receive():
                peer, header, _ = message
                if header.kind in (Kind.BOR, Kind.EOR):
                    socket.send(
                        EventAck(BeginOfRun.from_header(header).next_event).to_header(), to=peer
                    )
                else:
                    firsts.append(EventData.from_header(header).first_event)
                if len(firsts) == 300 and not busy_at:
                    busy_at = time.monotonic()
                    socket.send(Busy(True).to_header(), to=peer)
            if busy_at and not before and time.monotonic() > busy_at + 0.3:
                before = len(firsts)
                socket.send(Busy(False).to_header(), to=peer)
    finally:
        thread.join(25)
        front_end.close()
        socket.close()
    (sent,) = said
    assert sent.suppressed > 100
    assert sent.events + sent.suppressed == 1_000
    assert before <= 1_000 - sent.suppressed
    assert firsts == list(range(sent.events))
    assert sent.acknowledged == sent.events
