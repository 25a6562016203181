"""Full queues: a peer that cannot send because its queue is full is not taken for disconnected."""

from __future__ import annotations

import threading
import time

import pytest

from sluice.pipeline.transport import socket
from sluice.pipeline.transport.protocol import Header, Kind, Limits
from sluice.pipeline.transport.socket import Socket

PEERS = 4
PAYLOAD = bytes(20_000)


def flood(endpoint, number, stopping, sent):
    """Send without pause from one peer, and receive the answers."""
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
    while client.poll(2.0):  # queued messages are still delivered
        client.receive()
    client.close()


@pytest.mark.timeout(60)
def test_a_full_queue_does_not_disconnect_a_peer(monkeypatch):
    """ZeroMQ's heartbeats would drop these peers, or abort the process; keepalive does neither."""
    monkeypatch.setattr(socket, "_KEEPALIVE_S", 1)
    server = Socket("tcp://127.0.0.1:0", limits=Limits(queue=10))
    stopping, sent = threading.Event(), [0] * PEERS
    threads = [
        threading.Thread(target=flood, args=(server.endpoint, n, stopping, sent))
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
