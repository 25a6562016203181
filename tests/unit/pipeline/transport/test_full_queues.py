"""Queues that stay full: nobody takes a peer that may not speak for one that is dead."""

from __future__ import annotations

import threading
import time

import pytest

from sluice.pipeline.transport import socket
from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.socket import Limits, Socket

PEERS = 4
PAYLOAD = bytes(20_000)


def press(endpoint, number, stopping, sent):
    """Send as fast as goes, from one peer, taking what comes back."""
    client = Socket(
        endpoint, f"peer-{number}", limits=Limits(queue=10), queue_while_disconnected=False
    )
    while not stopping.is_set():
        if client.send(Header(Kind.RAW, seq=sent[number]), PAYLOAD):
            sent[number] += 1
        else:
            time.sleep(0.002)
        client.receive()
    stopping.wait()
    while client.poll(2.0):  # what is on its way is still delivered
        client.receive()
    client.close()


@pytest.mark.timeout(60)
def test_a_full_queue_is_no_silence(monkeypatch):
    """ZeroMQ's heartbeats would drop these peers, or abort the process; keepalive does neither."""
    monkeypatch.setattr(socket, "_KEEPALIVE_S", 1)
    server = Socket("tcp://127.0.0.1:0", limits=Limits(queue=10))
    stopping, sent = threading.Event(), [0] * PEERS
    threads = [
        threading.Thread(target=press, args=(server.endpoint, n, stopping, sent))
        for n in range(PEERS)
    ]
    for thread in threads:
        thread.start()
    next_seq = {}

    def take(seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not server.poll(0.01):
                continue
            peer, header, _ = server.receive()
            assert header.seq == next_seq.get(peer, 0)
            next_seq[peer] = header.seq + 1
            server.send(Header(Kind.BUSY, arg2=1), PAYLOAD, to=peer)

    for _ in range(2):
        take(0.1)
        time.sleep(5.0)  # longer than all probes
    stopping.set()
    deadline = time.monotonic() + 20
    while sum(next_seq.values()) < sum(sent) and time.monotonic() < deadline:
        take(0.1)
    for thread in threads:
        thread.join(20)
    server.close()
    assert sorted(next_seq.values()) == sorted(sent)
    assert min(sent) > 100
