"""What other hosts send never keeps local processes, or ingest itself, from their turn."""

from __future__ import annotations

import time
from types import SimpleNamespace

import psutil
import pytest

from sluice.pipeline.config.graph_file import WorkersTable
from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.engine.workers import router as module
from sluice.pipeline.engine.workers.router import Router, open_remote
from sluice.pipeline.transport.protocol import Header, Kind, Limits
from sluice.pipeline.transport.socket import Socket


class Queue:
    """A socket with messages that wait, without end if there is a last one."""

    endpoint = "inproc://x"

    def __init__(self, *waiting, endless=None):
        self.waiting, self.endless, self.taken = list(waiting), endless, 0

    def receive(self):
        self.taken += 1
        message = self.waiting.pop(0) if self.waiting else self.endless
        if isinstance(message, ProtocolError):
            raise message
        return message


def turn(router):
    """Return what a turn receives; an error by its class."""
    found = []
    router.start_turn()
    while True:
        try:
            got = router.receive()
        except ProtocolError:
            found.append("error")
            continue
        if got is None:
            return found
        found.append(got[0])


def test_local_messages_come_first_and_a_flood_of_others_ends_the_turn(monkeypatch):
    monkeypatch.setattr(module, "_MAX_REMOTE", 5)
    router = Router(Queue("a", "b"), Queue(endless="flood"))
    assert turn(router) == ["a", "b", *["flood"] * 5]
    assert turn(router) == ["flood"] * 5


@pytest.mark.parametrize("endless", ["flood", ProtocolError("wrong")])
def test_a_flood_of_local_messages_leaves_the_others_their_share(monkeypatch, endless):
    monkeypatch.setattr(module, "_MAX_LOCAL", 7)
    router = Router(Queue(endless=endless), Queue("c", "d"))
    assert turn(router)[-2:] == ["c", "d"]
    assert len(turn(router)) == 7


def test_messages_that_take_long_end_the_turn_too(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    router = Router(Queue("a"), Queue(endless="large"))
    router.start_turn()
    found = []
    while (got := router.receive()) is not None:
        found.append(got[0])
        now[0] += 0.0009
    assert found == ["a", "large", "large", "large"]


def test_without_a_turn_nothing_is_received():
    assert Router(Queue("a"), Queue("b")).receive() is None
    assert turn(Router(Queue("a"))) == ["a"]


def test_what_another_host_sends_waits_there_and_not_in_memory_here():
    """A flood of large messages costs this process one turn of them; none is lost."""
    megabyte, messages = 1 << 20, 300
    here = open_remote("tcp://127.0.0.1:0", WorkersTable())
    assert here is not None
    flood = Socket(here.endpoint, "flood", limits=Limits(queue=1))
    before = psutil.Process().memory_info().rss
    sent, last_s = 0, time.monotonic()
    while sent < messages and time.monotonic() - last_s < 1:
        if flood.send(Header(Kind.RESULT, seq=sent), bytes([sent % 256]) * megabyte):
            sent, last_s = sent + 1, time.monotonic()
    assert 64 <= sent < 128
    assert psutil.Process().memory_info().rss - before < 128 * megabyte
    found = []
    while len(found) < messages:
        if sent < messages and flood.send(
            Header(Kind.RESULT, seq=sent), bytes([sent % 256]) * megabyte
        ):
            sent += 1
        if (message := here.receive()) is not None:
            found.append((message[1].seq, bytes(message[2][0][:1]), message[2][0].nbytes))
        assert time.monotonic() - last_s < 60
    assert found == [(n, bytes([n % 256]), megabyte) for n in range(messages)]
    flood.close()
    here.close()
