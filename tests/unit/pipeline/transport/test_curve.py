"""CURVE over real TCP sockets: which peers are accepted, and what either side learns."""

from __future__ import annotations

import threading
import time

import numpy as np
import psutil
import pytest
import zmq

from sluice.pipeline.config.strict import strict_convert
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.sources.live.source import LiveSource
from sluice.pipeline.tools.emulator import ingest_client
from sluice.pipeline.tools.emulator.front_end import FrontEndEmulator
from sluice.pipeline.transport.curve_keys import ClientAuth, ServerAuth, new_keys, write_keys
from sluice.pipeline.transport.poller import Poller
from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.socket import Socket

SERVER, CLIENT_1, CLIENT_2, UNKNOWN = (new_keys() for _ in range(4))
AUTH = ServerAuth(SERVER, frozenset({CLIENT_1.public, CLIENT_2.public}))
LOCAL = "tcp://127.0.0.1:0"


@pytest.fixture
def opened():
    """Sockets, closed at the end."""
    sockets = []

    def make(*arguments, **named):
        sockets.append(Socket(*arguments, **named))
        return sockets[-1]

    yield make
    for socket in sockets:
        socket.close()


def receive_one(server, clients=(), timeout=3.0, until=lambda: False):
    """Return the next message, or None after the timeout or when `until` is true."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if server.poll(0.02) and (message := server.receive()):
            return message
        if until():
            return None
    return None


@pytest.mark.parametrize("keys", [CLIENT_1, CLIENT_2])
def test_a_peer_with_an_allowed_key_is_accepted_and_answered(opened, keys):
    server = opened(LOCAL, security=AUTH)
    client = opened(server.endpoint, "allowed", security=ClientAuth(keys, SERVER.public))
    client.send(Header(Kind.HELLO, arg2=7), b"payload")
    peer, header, payload = receive_one(server)
    assert (peer, header.arg2, bytes(payload[0])) == (b"allowed", 7, b"payload")
    assert server.send(Header(Kind.ACK, seq=3), to=peer)
    assert client.poll(3)
    assert client.receive()[1].seq == 3
    assert server.refused == 0
    assert client.last_failure is None


@pytest.mark.parametrize(
    ("security", "words", "final"),
    [
        (ClientAuth(UNKNOWN, SERVER.public), "refuses our key", True),
        (
            ClientAuth(CLIENT_1, UNKNOWN.public),
            "closed the connection during the CURVE handshake",
            False,
        ),
        (None, "requires keys and we have none", True),
    ],
    ids=["unknown key", "another server's key", "plain"],
)
def test_other_peers_are_dropped_and_counted_and_learn_the_reason(opened, security, words, final):
    server = opened(LOCAL, security=AUTH)
    refused = opened(server.endpoint, "unknown", security=security)
    refused.send(Header(Kind.HELLO))
    assert receive_one(server, until=lambda: server.refused and refused.last_failure) is None
    assert server.refused >= 1
    assert words in refused.last_failure.why
    assert refused.last_failure.final is final
    allowed = opened(server.endpoint, "allowed", security=ClientAuth(CLIENT_1, SERVER.public))
    allowed.send(Header(Kind.HELLO))
    assert receive_one(server)[0] == b"allowed"


def test_a_client_with_keys_learns_that_the_server_is_plain(opened):
    server = opened(LOCAL)
    client = opened(server.endpoint, "allowed", security=ClientAuth(CLIENT_1, SERVER.public))
    client.send(Header(Kind.HELLO))
    assert receive_one(server, until=lambda: client.last_failure) is None
    assert "plain" in client.last_failure.why


def test_each_socket_has_a_list_of_its_own(opened):
    one = opened(LOCAL, security=ServerAuth(SERVER, frozenset({CLIENT_1.public})))
    two = opened(LOCAL, security=ServerAuth(SERVER, frozenset({CLIENT_2.public})))
    for server, keys, accepted in (
        (one, CLIENT_1, True),
        (one, CLIENT_2, False),
        (two, CLIENT_2, True),
    ):
        client = opened(server.endpoint, "x", security=ClientAuth(keys, SERVER.public))
        client.send(Header(Kind.HELLO))
        before = server.refused
        got = receive_one(server, until=lambda s=server, b=before: s.refused > b)
        assert (got is not None) is accepted


def test_polling_any_socket_answers_requests(opened):
    """While a run waits at one socket, requests for its source must be answered."""
    server = opened(LOCAL, security=AUTH)
    other = opened(LOCAL)
    client = opened(server.endpoint, "allowed", security=ClientAuth(CLIENT_1, SERVER.public))
    client.send(Header(Kind.HELLO))
    poller, deadline = Poller([other]), time.monotonic() + 3
    while not server._socket.poll(0):
        assert time.monotonic() < deadline, "the request was not answered"
        poller.poll(0.02)
    assert server.receive()[0] == b"allowed"


def test_no_peer_is_accepted_while_no_request_is_answered(opened):
    server = opened(LOCAL, security=AUTH)
    client = opened(server.endpoint, "allowed", security=ClientAuth(CLIENT_1, SERVER.public))
    client.send(Header(Kind.HELLO))
    time.sleep(0.3)
    assert server.receive() is None  # receiving alone does not answer
    assert receive_one(server)[0] == b"allowed"


def test_the_other_mechanisms_are_refused(opened):
    server = opened(LOCAL, security=AUTH)
    context = zmq.Context()
    raw = context.socket(zmq.DEALER)
    try:
        raw.linger = 0
        raw.plain_username, raw.plain_password = b"root", b"root"
        raw.connect(server.endpoint)
        raw.send(b"hello")
        assert receive_one(server, until=lambda: server.refused) is None
        assert server.refused >= 1
    finally:
        raw.close()
        context.term()


def test_protected_sockets_open_and_close_without_leaks():
    me = psutil.Process()
    for round_ in range(30):
        servers = [Socket(LOCAL, security=AUTH) for _ in range(2)]
        client = Socket(servers[1].endpoint, "x", security=ClientAuth(CLIENT_1, SERVER.public))
        client.send(Header(Kind.HELLO))
        assert receive_one(servers[1]) is not None
        for socket in (*servers, client):
            socket.close()
            socket.close()  # a second call does nothing
        if round_ == 5:
            before = me.num_fds(), threading.active_count()
    deadline = time.monotonic() + 5
    while me.num_fds() > before[0] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert me.num_fds() <= before[0]
    assert threading.active_count() == before[1]


def test_a_hundred_refused_peers_do_not_delay_an_allowed_one(opened):
    server = opened(LOCAL, security=AUTH)
    context = zmq.Context()
    refused_sockets = []
    try:
        for _ in range(100):
            raw = context.socket(zmq.DEALER)
            raw.linger = 0
            raw.curve_publickey = UNKNOWN.public.encode()
            raw.curve_secretkey = UNKNOWN.secret.encode()
            raw.curve_serverkey = SERVER.public.encode()
            raw.connect(server.endpoint)
            refused_sockets.append(raw)
        allowed = opened(server.endpoint, "allowed", security=ClientAuth(CLIENT_1, SERVER.public))
        allowed.send(Header(Kind.HELLO))
        assert receive_one(server, timeout=20)[0] == b"allowed"
        assert receive_one(server, timeout=20, until=lambda: server.refused >= 100) is None
        assert server.refused == 100  # ZeroMQ does not try again with a refused key
    finally:
        for raw in refused_sockets:
            raw.close()
        context.term()


RECORD = Schema((EVENT_ID, T_EVENT, Column("q", "float32")))
EVENTS = EventBatch({c.name: np.zeros_like(c.empty(10)) for c in RECORD}, 10)


@pytest.fixture
def source(tmp_path):
    """A protected live source that accepts the first client."""
    secret, _ = write_keys(tmp_path / "ingest", SERVER)
    write_keys(tmp_path / "allowed" / "client", CLIENT_1)
    security = {"key": str(secret), "allow": [str(tmp_path / "allowed")]}
    options = {"columns": {"q": "float32"}, "listen": LOCAL, "security": security}
    made = LiveSource("source", strict_convert(options, LiveSource.Options, "here"))
    made.open()
    yield made
    made.close()


def send_all(source, security):
    """Return what a front end that sends a hundred events returns or raises."""
    results = []

    def run():
        front_end = FrontEndEmulator(source.socket.endpoint, EVENTS, RECORD, security=security)
        try:
            results.append(front_end.run(100_000, 100, 10))
        except RunError as error:
            results.append(error)
        finally:
            front_end.close()

    thread = threading.Thread(target=run, name="front-end")
    thread.start()
    deadline = time.monotonic() + 10
    while not results and time.monotonic() < deadline:
        if source.socket.poll(0.02):
            source.receive()
    thread.join(5)
    return results[0]


def test_a_front_end_with_the_right_key_is_accepted(source):
    sent = send_all(source, ClientAuth(CLIENT_1, SERVER.public))
    assert sent.acknowledged == 100
    assert source.read(1000).events == 100
    assert source.losses().rejected_connections == 0


@pytest.mark.parametrize(
    ("security", "words"),
    [
        (ClientAuth(UNKNOWN, SERVER.public), "refuses our key"),
        (ClientAuth(CLIENT_1, UNKNOWN.public), "closed the connection during the CURVE handshake"),
        (None, "requires keys and we have none"),
    ],
)
def test_a_front_end_without_it_ends_with_the_reason(source, security, words, monkeypatch):
    monkeypatch.setattr(ingest_client, "_ANSWER_S", 1.0)
    error = send_all(source, security)
    assert isinstance(error, RunError), error
    assert words in error.message
    assert error.hint
    refused, deadline = 0, time.monotonic() + 3
    while not refused and time.monotonic() < deadline:
        source.socket.poll(0.05)
        refused += source.losses().rejected_connections
    assert refused >= 1
    assert source.losses().rejected_connections == 0  # results once
    assert source.read(1000) is None
