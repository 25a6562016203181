"""Clients that hold connections, send slowly, or send too much, keep nobody from the pages."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, closing

import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sluice.pipeline.core.errors import RunError
from sluice.pipeline.run.state import RunState
from sluice.pipeline.service import connections
from sluice.pipeline.service.auth import HttpAuth
from sluice.pipeline.service.http import WebServer, application


class Runs:
    """A controller without runs, whose swaps last until they are released."""

    def __init__(self):
        self.control = RunState()
        self.accounting = None
        self.swaps_begun = threading.Semaphore(0)
        self.release = threading.Event()

    def swap(self, stage, model):
        self.swaps_begun.release()
        assert self.release.wait(30)
        raise RunError("no such stage")

    def configure(self):
        raise RunError("not now")

    def start(self):
        raise RunError("not now")

    def stop(self, *, abort):
        raise RunError("not now")


@pytest.fixture
def runs():
    return Runs()


@pytest.fixture
def address(runs, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT_S", 0.5)
    access = HttpAuth("127.0.0.1:0")
    server = WebServer(access, application(runs, CollectorRegistry(), access))
    server.start()
    yield server.address
    runs.release.set()
    server.close()


@pytest.fixture
def connect(address):
    with ExitStack() as stack:
        port = int(address.rpartition(":")[2])
        yield lambda: stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))


def get(address, path="/livez", method="GET", headers=None):
    request = urllib.request.Request(address + path, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ended(client):
    """Whether the server has closed a connection, within the socket's timeout."""
    try:
        while client.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def refuses(client, data):
    """Whether the server has closed a connection to which `data` is sent."""
    try:
        client.sendall(data)
        return not client.recv(4096)
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("sent", [b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: a"])
def test_a_connection_without_a_request_is_closed(connect, sent):
    client = connect()
    client.sendall(sent)
    began = time.monotonic()
    assert ended(client)
    assert 0.3 < time.monotonic() - began < 8


def test_a_head_that_comes_byte_by_byte_does_not_extend_the_time(connect):
    client = connect()
    client.settimeout(0.1)
    assert any(refuses(client, b"G") for _ in range(80))


def test_a_second_request_has_the_same_time(connect):
    client = connect()
    client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert client.recv(4096).startswith(b"HTTP/1.1 200")
    client.sendall(b"GET /livez HT")
    assert ended(client)


def test_a_request_after_an_answer_that_was_read_late_has_the_same_time(monkeypatch):
    """The answer is too large for the buffers, so its writing pauses until the client reads."""
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT_S", 2.0)
    page = PlainTextResponse(bytes(16 << 20))
    server = WebServer(HttpAuth("127.0.0.1:0"), Starlette(routes=[Route("/", lambda _: page)]))
    server.start()
    port = int(server.address.rpartition(":")[2])
    with closing(server), socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.2)
        left = 16 << 20
        while left > 0:  # the head counts too: a little of the answer is left
            left -= len(client.recv(1 << 20))
        client.sendall(b"GET / HT")
        assert ended(client)


def test_idle_connections_do_not_keep_a_health_check_out(connect, address, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT_S", 60.0)
    clients = [connect() for _ in range(3 * connections.MAX_CONNECTIONS)]
    assert get(address) == (200, "INITIAL")
    for client in clients[: 2 * connections.MAX_CONNECTIONS]:
        assert ended(client)


def test_waiting_swaps_do_not_keep_pages_out(runs, address):
    def post():
        answers.append(get(address, "/swap?stage=tag&model=m", "POST"))

    answers = []
    posts = [threading.Thread(target=post) for _ in range(8)]
    for thread in posts:
        thread.start()
    for _ in range(4):
        assert runs.swaps_begun.acquire(timeout=10)
    for path, code in (("/livez", 200), ("/readyz", 503), ("/metrics", 200), ("/status", 200)):
        assert get(address, path)[0] == code
    assert get(address, "/stop", "POST")[0] == 409
    runs.release.set()
    for thread in posts:
        thread.join(30)
    texts = sorted(text for code, text in answers if code == 409)
    assert len(texts) == 8
    assert sum("swaps wait already" in text for text in texts) == 4


def test_long_heads_and_bodies_end_the_connection(connect):
    client = connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000)
    assert client.recv(4096).startswith(b"HTTP/1.1 400") or ended(client)
    client = connect()
    client.settimeout(0.1)
    client.sendall(b"POST /stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n")
    assert any(refuses(client, b"x" * 10_000) for _ in range(80))


def test_pages_are_for_our_own_host_alone(address):
    for path in ("/", "/status", "/metrics", "/livez"):
        code, text = get(address, path, headers={"Host": "rebound.example"})
        assert (code, "another host" in text) == (403, True)
