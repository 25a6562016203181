"""A front end that ingest has told to pause goes on when that ingest is gone."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

import pytest

from sluice.pipeline.core.schema import EVENT_ID, Schema
from sluice.pipeline.tools.emulator import ingest_client
from sluice.pipeline.tools.emulator.ingest_client import IngestClient
from sluice.pipeline.transport.front_end_messages import Busy


class Socket:
    """A socket on which what is in `arrived` has come."""

    def __init__(self, *_, **__):
        self.arrived = deque()
        self.send, self.close = lambda *_: True, lambda: None

    def receive(self):
        return (b"", self.arrived.popleft(), []) if self.arrived else None


@pytest.fixture
def client(monkeypatch):
    monkeypatch.setattr(ingest_client, "Socket", Socket)
    return IngestClient("tcp://127.0.0.1:1", Schema((EVENT_ID,)), 0, None)


def hear(client, *, pause):
    client._socket.arrived.append(Busy(pause).to_header())
    client.receive_all()


def test_a_pause_ends_with_the_word_of_ingest(client):
    assert not client.busy
    hear(client, pause=True)
    assert client.busy
    hear(client, pause=False)
    assert not client.busy


def test_a_pause_that_is_not_repeated_is_over(client, monkeypatch):
    now_s = [100.0]
    monkeypatch.setattr(ingest_client, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    hear(client, pause=True)
    now_s[0] += 2.9
    assert client.busy
    hear(client, pause=True)
    now_s[0] += 2.9
    assert client.busy
    now_s[0] += 0.2
    assert not client.busy
