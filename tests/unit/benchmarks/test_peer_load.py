"""The harness of the peers' benchmark: what it counts, and a client against a real HTTP server."""

from __future__ import annotations

import heapq
import importlib
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

_PEERS = Path(__file__).resolve().parents[3] / "benchmarks" / "peers"


@pytest.fixture(autouse=True)
def module(monkeypatch):
    """Import a module of the harness, which is a folder of scripts."""
    monkeypatch.setattr(sys, "path", [str(_PEERS), *sys.path])
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if not name.startswith(("numpy", "sluice")):
            del sys.modules[name]


class Fake:
    """Answers each message after a time, but not some of them."""

    loses = True

    def __init__(self, took_s, lost=(), max_in_flight=1000):
        self.max_in_flight = max_in_flight
        self._took_s, self._lost = took_s, set(lost)
        self._due = []
        self.peak = 0

    def send(self, number):
        if number not in self._lost:
            heapq.heappush(self._due, (time.monotonic() + self._took_s, number))
        self.peak = max(self.peak, len(self._due))

    def wait(self, timeout_s):
        soonest = self._due[0][0] if self._due else time.monotonic() + timeout_s
        time.sleep(max(0.0, min(timeout_s, soonest - time.monotonic())))
        done = []
        while self._due and self._due[0][0] <= time.monotonic():
            done.append(heapq.heappop(self._due)[1])
        return done

    def errors(self):
        return 0


def test_closed_loop_keeps_so_many_on_their_way(module):
    link = Fake(0.02)
    got = module("load").closed_loop(link, events=10, in_flight=4, warm_s=0.1, seconds=0.5)
    assert link.peak <= 4
    assert got["unanswered"] == 0
    assert got["latency_ms"]["p50"] >= 20
    assert 20 < got["messages_per_s"] <= 4 / 0.02 * 1.05
    assert got["events_per_s"] == pytest.approx(10 * got["messages_per_s"])


def test_closed_loop_goes_on_where_messages_are_lost(module, monkeypatch):
    load = module("load")
    monkeypatch.setattr(load, "_GIVE_UP_NS", 50_000_000)
    monkeypatch.setattr(load, "LAST_S", 0.2)
    got = load.closed_loop(Fake(0.001, lost=range(5, 9)), 1, in_flight=4, warm_s=0, seconds=0.6)
    assert got["unanswered"] == 4
    assert got["messages"] > 10


def test_open_loop_counts_from_when_a_message_was_due(module):
    got = module("load").open_loop(
        Fake(0.005, max_in_flight=1), 1, rate_hz=400, warm_s=0, seconds=0.5
    )
    assert got["offered_per_s"] == 400
    # One at a time takes 5 ms, one is due every 2.5 ms: the queue grows, and so does the latency.
    assert got["latency_ms"]["max"] > 100
    assert got["messages"] + got["unanswered"] == 200


def test_open_loop_tells_what_was_never_answered(module, monkeypatch):
    load = module("load")
    monkeypatch.setattr(load, "LAST_S", 0.2)
    got = load.open_loop(Fake(0.001, lost=[3, 50]), 1, rate_hz=200, warm_s=0, seconds=0.5)
    assert got["unanswered"] == 2
    assert got["messages"] == 98


class Handler(BaseHTTPRequestHandler):
    """Gives of each image its first 16 numbers; wrong ones at /wrong, none at /broken."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        images = np.frombuffer(body, np.float32).reshape(-1, 64)
        answer = (images[:, :16] + (self.path == "/wrong")).tobytes()
        self.send_response(500 if self.path == "/broken" else 200)
        self.send_header("Inference-Header-Content-Length", "7")  # as Triton does
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def port():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.mark.parametrize(("path", "all_wrong"), [("/", False), ("/wrong", True), ("/broken", True)])
@pytest.mark.parametrize("size", [1, 256])
def test_http_client(module, tmp_path, monkeypatch, port, path, all_wrong, size):
    images = np.random.default_rng(1).random((1024, 8, 8), np.float32)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "latents.npy", images.reshape(-1, 64)[:, :16])
    monkeypatch.setenv("PEER_EVENTS", str(tmp_path))
    http = module("http_client")
    monkeypatch.setattr(http, "LOOK_AT", 1)
    monkeypatch.setattr(http.HttpLink, "path", path)
    link = http.HttpLink(module("events").Events(size), port, max_in_flight=3)
    left, sent, deadline = set(range(12)), 0, time.monotonic() + 20
    while left and time.monotonic() < deadline:
        while sent < 12 and sent - (12 - len(left)) < 3:
            link.send(sent)
            sent += 1
        left -= set(link.wait(0.1))
    link.close()
    assert not left
    assert link.errors() == (12 if all_wrong else 0)


def test_table(module):
    def result(loop, rate):
        return {"loop": loop, "events_per_message": 1, "events_per_s": rate, "in_flight": 32,
                "unanswered": 0, "errors": 1, "latency_ms": {"p50": 1.0, "p99": 2.5}}  # fmt: skip

    report = {"peers": {
        "mosec": {"version": "1.2", "reason": None,
                  "results": [result("closed", 9e3), result("closed", 2e6), result("open", 5)]},
        "triton": {"version": None, "reason": "does not start", "results": []},
    }}  # fmt: skip
    text = module("table").markdown(report)
    assert "| mosec 1.2 | 1 | 2.00 M | 32 | 2.50 | 1.00 | 2.50 | 3 |" in text
    assert "- triton: does not start" in text
