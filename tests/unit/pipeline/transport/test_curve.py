"""CURVE over real TCP sockets: who is let in, who is not, and what either side is told."""

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
from sluice.pipeline.transport.curve_keys import ClientAuth, ServerAuth, write_keys
from sluice.pipeline.transport.poller import Poller
from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.socket import Socket, new_keys

SERVER, ALICE, BOB, MALLORY = (new_keys() for _ in range(4))
GUARD = ServerAuth(SERVER, frozenset({ALICE.public, BOB.public}))
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


def hear(server, clients=(), timeout=3.0, until=lambda: False):
    """Poll the server until a message comes or something is so; None if time runs out."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if server.poll(0.02) and (message := server.receive()):
            return message
        if until():
            return None
    return None


@pytest.mark.parametrize("keys", [ALICE, BOB])
def test_an_allowed_key_is_let_in_and_answered(opened, keys):
    server = opened(LOCAL, security=GUARD)
    client = opened(server.endpoint, "friend", security=ClientAuth(keys, SERVER.public))
    client.send(Header(Kind.HELLO, arg2=7), b"payload")
    peer, header, payload = hear(server)
    assert (peer, header.arg2, bytes(payload[0])) == (b"friend", 7, b"payload")
    assert server.send(Header(Kind.ACK, seq=3), to=peer)
    assert client.poll(3)
    assert client.receive()[1].seq == 3
    assert server.refused == 0
    assert client.last_failure is None


@pytest.mark.parametrize(
    ("security", "words", "final"),
    [
        (ClientAuth(MALLORY, SERVER.public), "refuses our key", True),
        (
            ClientAuth(ALICE, MALLORY.public),
            "closed the connection during the CURVE handshake",
            False,
        ),
        (None, "requires keys and we have none", True),
    ],
    ids=["unknown key", "another server's key", "plain"],
)
def test_others_are_dropped_counted_and_told(opened, security, words, final):
    server = opened(LOCAL, security=GUARD)
    stranger = opened(server.endpoint, "stranger", security=security)
    stranger.send(Header(Kind.HELLO))
    assert hear(server, until=lambda: server.refused and stranger.last_failure) is None
    assert server.refused >= 1
    assert words in stranger.last_failure.why
    assert stranger.last_failure.final is final
    friend = opened(server.endpoint, "friend", security=ClientAuth(ALICE, SERVER.public))
    friend.send(Header(Kind.HELLO))
    assert hear(server)[0] == b"friend"


def test_a_key_at_a_plain_socket_is_told_so(opened):
    server = opened(LOCAL)
    client = opened(server.endpoint, "friend", security=ClientAuth(ALICE, SERVER.public))
    client.send(Header(Kind.HELLO))
    assert hear(server, until=lambda: client.last_failure) is None
    assert "plain" in client.last_failure.why


def test_each_socket_has_a_list_of_its_own(opened):
    one = opened(LOCAL, security=ServerAuth(SERVER, frozenset({ALICE.public})))
    two = opened(LOCAL, security=ServerAuth(SERVER, frozenset({BOB.public})))
    for server, keys, welcome in ((one, ALICE, True), (one, BOB, False), (two, BOB, True)):
        client = opened(server.endpoint, "x", security=ClientAuth(keys, SERVER.public))
        client.send(Header(Kind.HELLO))
        before = server.refused
        got = hear(server, until=lambda s=server, b=before: s.refused > b)
        assert (got is not None) is welcome


def test_polling_any_socket_opens_the_door(opened):
    """A run that waits on its hub must still answer for its source."""
    server = opened(LOCAL, security=GUARD)
    other = opened(LOCAL)
    client = opened(server.endpoint, "friend", security=ClientAuth(ALICE, SERVER.public))
    client.send(Header(Kind.HELLO))
    poller, deadline = Poller([other]), time.monotonic() + 3
    while not server._socket.poll(0):
        assert time.monotonic() < deadline, "the question was not answered"
        poller.poll(0.02)
    assert server.receive()[0] == b"friend"


def test_nobody_is_let_in_while_nobody_answers(opened):
    server = opened(LOCAL, security=GUARD)
    client = opened(server.endpoint, "friend", security=ClientAuth(ALICE, SERVER.public))
    client.send(Header(Kind.HELLO))
    time.sleep(0.3)
    assert server.receive() is None  # receiving alone does not answer
    assert hear(server)[0] == b"friend"


def test_the_other_mechanisms_are_refused(opened):
    server = opened(LOCAL, security=GUARD)
    context = zmq.Context()
    raw = context.socket(zmq.DEALER)
    try:
        raw.linger = 0
        raw.plain_username, raw.plain_password = b"root", b"root"
        raw.connect(server.endpoint)
        raw.send(b"hello")
        assert hear(server, until=lambda: server.refused) is None
        assert server.refused >= 1
    finally:
        raw.close()
        context.term()


def test_doors_open_and_close_without_leaving_anything():
    me = psutil.Process()
    for round_ in range(30):
        servers = [Socket(LOCAL, security=GUARD) for _ in range(2)]
        client = Socket(servers[1].endpoint, "x", security=ClientAuth(ALICE, SERVER.public))
        client.send(Header(Kind.HELLO))
        assert hear(servers[1]) is not None
        for socket in (*servers, client):
            socket.close()
            socket.close()  # twice is as good as once
        if round_ == 5:
            before = me.num_fds(), threading.active_count()
    deadline = time.monotonic() + 5
    while me.num_fds() > before[0] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert me.num_fds() <= before[0]
    assert threading.active_count() == before[1]


def test_a_hundred_strangers_do_not_keep_a_friend_out(opened):
    server = opened(LOCAL, security=GUARD)
    context = zmq.Context()
    strangers = []
    try:
        for _ in range(100):
            raw = context.socket(zmq.DEALER)
            raw.linger = 0
            raw.curve_publickey = MALLORY.public.encode()
            raw.curve_secretkey = MALLORY.secret.encode()
            raw.curve_serverkey = SERVER.public.encode()
            raw.connect(server.endpoint)
            strangers.append(raw)
        friend = opened(server.endpoint, "friend", security=ClientAuth(ALICE, SERVER.public))
        friend.send(Header(Kind.HELLO))
        assert hear(server, timeout=20)[0] == b"friend"
        assert hear(server, timeout=20, until=lambda: server.refused >= 100) is None
        assert server.refused == 100  # ZeroMQ does not try again with a refused key
    finally:
        for raw in strangers:
            raw.close()
        context.term()


RECORD = Schema((EVENT_ID, T_EVENT, Column("q", "float32")))
EVENTS = EventBatch({c.name: np.zeros_like(c.empty(10)) for c in RECORD}, 10)


@pytest.fixture
def source(tmp_path):
    """A guarded live source that lets alice in."""
    secret, _ = write_keys(tmp_path / "ingest", SERVER)
    write_keys(tmp_path / "allowed" / "alice", ALICE)
    security = {"key": str(secret), "allow": [str(tmp_path / "allowed")]}
    options = {"columns": {"q": "float32"}, "listen": LOCAL, "security": security}
    made = LiveSource("source", strict_convert(options, LiveSource.Options, "here"))
    made.open()
    yield made
    made.close()


def send_all(source, security):
    """Let a front end send a hundred events; what it says, what the source lost."""
    said = []

    def run():
        front_end = FrontEndEmulator(source.socket.endpoint, EVENTS, RECORD, security=security)
        try:
            said.append(front_end.run(100_000, 100, 10))
        except RunError as error:
            said.append(error)
        finally:
            front_end.close()

    thread = threading.Thread(target=run, name="front-end")
    thread.start()
    deadline = time.monotonic() + 10
    while not said and time.monotonic() < deadline:
        if source.socket.poll(0.02):
            source.receive()
    thread.join(5)
    return said[0]


def test_a_front_end_with_the_right_key_is_heard(source):
    sent = send_all(source, ClientAuth(ALICE, SERVER.public))
    assert sent.acknowledged == 100
    assert source.read(1000).events == 100
    assert source.losses().rejected_connections == 0


@pytest.mark.parametrize(
    ("security", "words"),
    [
        (ClientAuth(MALLORY, SERVER.public), "refuses our key"),
        (ClientAuth(ALICE, MALLORY.public), "closed the connection during the CURVE handshake"),
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
    assert source.losses().rejected_connections == 0  # said once
    assert source.read(1000) is None
