"""Processes that hang and processes that are slow: no event is lost, and the run can be stopped."""

from __future__ import annotations

import json
import signal
import socket
import time

import numpy as np
import pyarrow as pa
import pytest

SINK = {"use": "recording", "keep": "all", "columns": ["event_id", "packed", "outcome", "decision"]}
EVENTS = 20_000


@pytest.fixture
def replay(launch, http, tmp_path, wafers):
    """Start a replay with pages, report and recording."""

    def start(graph, *more, source=wafers):
        return launch(
            "replay", source, "--graph", graph, "--report", tmp_path / "r.json",
            "--out", tmp_path / "o.arrows", "--http", f"127.0.0.1:{http.port}", *more,
        )  # fmt: skip

    return start


@pytest.fixture
def small_batches(make_graph):
    """A graph of small batches that take 10 ms each."""

    def make(window=4, **workers):
        slow = {"use": "test.delay", "name": "slow", "seconds": 0.01}
        graph = {"batch_events": 100, "window": window}
        return make_graph(first=[slow], sink=SINK, graph=graph, workers=workers)

    return make


def stop_the_sink(command):
    """Let the sink stand still; return its process."""
    (sink,) = command.workers("sink")
    sink.send_signal(signal.SIGSTOP)
    return sink


def busy(status, text):
    """Whether the window is full, in the words of /status."""
    return status == 200 and json.loads(text)["report"]["seconds"]["busy"] > 0.5


def recorded(path):
    """Return the event ids of a recording."""
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_stream(file).read_all()["event_id"].to_numpy()


def test_a_sink_that_hangs_is_killed_and_the_next_goes_on(
    replay, http, small_batches, tmp_path, load_report
):
    command = replay(small_batches(hang_timeout="3 s"), "--workers", 2)
    http.settled(command, 1000)
    stop_the_sink(command)
    done = command.finish()
    assert done.code == 0, done
    report = load_report(tmp_path / "r.json")
    assert report["restarts"] == {"sink": 1}
    assert report["events"]["offered"] == EVENTS
    assert report["events"]["failed"] == 0
    np.testing.assert_array_equal(recorded(tmp_path / "o.arrows"), np.arange(1, EVENTS + 1))


@pytest.mark.long  # beside one that hangs in mid-run
def test_a_sink_that_hangs_over_the_end_of_the_run_is_killed_too(
    replay, http, small_batches, tmp_path, load_report
):
    command = replay(small_batches(window=64, hang_timeout="3 s"))
    http.settled(command, EVENTS - 5000)  # all the rest is in flight when the source is done
    stop_the_sink(command)
    done = command.finish()
    assert done.code == 0, done
    assert load_report(tmp_path / "r.json")["events"]["failed"] == 0
    np.testing.assert_array_equal(recorded(tmp_path / "o.arrows"), np.arange(1, EVENTS + 1))


def test_stop_while_the_sink_stands_still_ends_within_a_bound(
    replay, http, small_batches, tmp_path, load_report
):
    command = replay(small_batches(hang_timeout="4 s"))
    http.settled(command, 1000)
    stop_the_sink(command)
    http.until("/status", busy, command)
    command.signal(signal.SIGTERM)
    done = command.finish(45)  # to be noticed, to start a sink, to drain four batches
    assert done.code == 9, done
    report = load_report(tmp_path / "r.json")
    assert report["state"] == "STOPPED"
    assert 1000 <= report["events"]["offered"] < EVENTS
    for never in ("lost", "failed", "shed", "invalid"):
        assert report["events"][never] == 0
    assert report["seconds"]["busy"] > 0.5
    ids = recorded(tmp_path / "o.arrows")
    np.testing.assert_array_equal(ids, np.arange(1, report["events"]["offered"] + 1))


def test_a_second_stop_does_not_wait_for_a_sink_that_stands_still(
    replay, http, small_batches, tmp_path, load_report
):
    command = replay(small_batches())
    http.settled(command, 1000)
    stop_the_sink(command)
    http.until("/status", busy, command)
    command.signal(signal.SIGTERM)
    time.sleep(0.3)
    command.signal(signal.SIGTERM)
    done = command.finish(20)
    assert done.code == 5, done
    assert "second time" in done.err
    events = load_report(tmp_path / "r.json")["events"]
    assert 0 < events["failed"] <= 400  # what the window holds
    ids = recorded(tmp_path / "o.arrows")  # an ACK may have been lost, no event is
    decided = events["offered"] - events["failed"]
    np.testing.assert_array_equal(ids, np.arange(1, len(ids) + 1))
    assert decided <= len(ids) <= events["offered"]


def test_clients_that_never_read_slow_neither_run_nor_other_clients(
    replay, http, small_batches, tmp_path, load_report
):
    command = replay(small_batches())
    http.ready(command)
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500
    clients = []
    try:
        for _ in range(8):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(5)
            client.connect(("127.0.0.1", http.port))
            client.send(request)
            clients.append(client)
        http.settled(command, EVENTS // 2)  # others are answered meanwhile
        done = command.finish(60)
    finally:
        for client in clients:
            client.close()
    assert done.code == 0, done
    report = load_report(tmp_path / "r.json")
    assert report["events"]["offered"] == EVENTS
    assert report["events"]["failed"] == 0


def test_a_slow_monitor_loses_samples_and_physics_nothing(
    replay, make_graph, make_recording, tmp_path, load_report
):
    events, samples = 100_000, 333
    source = make_recording(tmp_path / "many.arrows", events)
    watch = [{"use": "test.slow", "name": "watch", "seconds": 0.1}]
    graph = make_graph(sink=SINK, monitor=watch, graph={"batch_events": 300})
    done = replay(graph, source=source).finish(90)
    assert done.code == 0, done
    report = load_report(tmp_path / "r.json")
    assert report["events"]["offered"] == events
    assert report["events"]["failed"] == report["events"]["shed"] == 0
    seen = report["watch"]
    assert seen["n"] + seen["dropped"] == events
    assert seen["n"] > 0
    assert seen["dropped"] > events // 3
    seconds = report["seconds"]
    assert seconds["live"] + seconds["busy"] < 0.1 * samples / 2
