"""Only a process that runs now can send: neither an earlier one of its name nor a stranger."""

from __future__ import annotations

import pytest

from sluice.pipeline.engine.distributed.sessions import SessionError, Sessions
from sluice.pipeline.engine.workers.process_spec import socket_identity
from sluice.pipeline.transport.protocol import Header, Kind, Session

CREDIT = Header(Kind.CREDIT)


class Router:
    """Notes what is sent: kind, session, identity and whether to another host."""

    def __init__(self):
        self.sent = []

    def send(self, header, *_, to, remote):
        self.sent.append((Kind(header.kind), header.session, to, remote))
        return True


@pytest.fixture
def router():
    return Router()


@pytest.fixture
def sessions(router):
    return Sessions(5, router)


def identity(name, session):
    return socket_identity(name, session.number).encode()


def test_what_a_process_sends_in_its_session_is_from_it(sessions, router):
    session = sessions.open("compute-0")
    assert session.run == 5
    assert session.number > 0
    peer = identity("compute-0", session)
    assert sessions.sender(peer, CREDIT.of(session), remote=False) == "compute-0"
    assert sessions.send("compute-0", Header(Kind.STOP))
    assert router.sent == [(Kind.STOP, session, peer, False)]


@pytest.mark.parametrize("restarted", [True, False])
def test_what_an_exited_process_has_sent_is_refused(sessions, router, restarted):
    before = sessions.open("compute-0")
    sessions.close("compute-0")
    if restarted:
        now = sessions.open("compute-0")
        assert now.number != before.number
        with pytest.raises(SessionError):
            sessions.sender(identity("compute-0", now), CREDIT.of(before), remote=False)
    with pytest.raises(SessionError, match=r"CREDIT of 'compute-0\..*' \(run 5\)"):
        sessions.sender(identity("compute-0", before), CREDIT.of(before), remote=False)
    assert router.sent == []


@pytest.mark.parametrize("run", [4, 0])
def test_another_run_is_refused(sessions, run):
    session = sessions.open("compute-0")
    header = CREDIT.of(Session(run, session.number))
    with pytest.raises(SessionError):
        sessions.sender(identity("compute-0", session), header, remote=False)


def test_a_socket_of_another_host_is_not_one_of_this_host(sessions):
    session = sessions.open("compute-0")
    with pytest.raises(SessionError):
        sessions.sender(identity("compute-0", session), CREDIT.of(session), remote=True)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_worker_without_a_session_gets_an_error_in_its_own(sessions, router, kind):
    theirs = Session(3, 77)
    with pytest.raises(SessionError):
        sessions.sender(b"stranger", Header(kind).of(theirs), remote=True)
    answer = [(Kind.ERROR, theirs, b"stranger", True)]
    assert router.sent == ([] if kind in (Kind.STOP, Kind.ERROR) else answer)


def test_nothing_is_sent_to_a_process_without_a_session(sessions, router):
    sessions.open("north", b"1")
    sessions.close("north")
    assert not sessions.send("north", Header(Kind.DATA))
    assert router.sent == []


def test_two_names_may_not_share_a_session(sessions):
    numbers = {sessions.open(f"w{n}", str(n).encode()).number for n in range(100)}
    assert len(numbers) == 100
