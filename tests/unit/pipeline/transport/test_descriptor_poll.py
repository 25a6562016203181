"""Waiting for sockets works in a process with many descriptors, and to less than a millisecond."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from sluice.pipeline.transport.descriptor_poll import DescriptorPoll

_CHILD = textwrap.dedent("""
    import os, resource, sys
    from sluice.pipeline.transport.protocol import Header, Kind
    from sluice.pipeline.transport.poller import Poller
    from sluice.pipeline.transport.socket import Socket, terminate

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2048), hard))
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(1200)]
    assert max(opened) > 1100, max(opened)
    router = Socket(sys.argv[1])
    assert router._socket.fileno() > 1023
    poller = Poller([router])
    assert poller.poll(0.01) == []
    dealer = Socket(sys.argv[1], "one")
    assert dealer.send(Header(Kind.HELLO))
    assert poller.poll(20.0) == [router]
    peer, header, _ = router.receive()
    assert (peer, header.kind) == (b"one", Kind.HELLO)
    router.close(); dealer.close(); terminate()
    print("received")
""")


def test_a_process_with_more_than_1024_descriptors_polls_a_socket(tmp_path):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip(f"needs 2048 descriptors, the hard limit is {hard}")
    command = [sys.executable, "-c", _CHILD, f"ipc://{tmp_path}/socket"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "received\n"


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_a_readable_descriptor_ends_the_wait(pipe):
    reader, writer = pipe
    poll = DescriptorPoll([reader])
    assert not poll.wait(0.0)
    os.write(writer, b"x")
    began = time.monotonic()
    assert poll.wait(30.0)
    assert time.monotonic() - began < 10
    assert poll.wait(float("inf"))


def test_timeouts_are_finer_than_a_millisecond(pipe):
    poll = DescriptorPoll(pipe[:1])
    shortest = []
    for _ in range(20):
        began = time.monotonic_ns()
        assert not poll.wait(200e-6)
        shortest.append(time.monotonic_ns() - began)
    assert 200e3 <= min(shortest) < 1e6


def test_without_descriptors_it_waits_for_the_timeout():
    began = time.monotonic()
    assert not DescriptorPoll([]).wait(0.02)
    assert time.monotonic() - began >= 0.02


def test_a_negative_timeout_does_not_wait(pipe):
    assert not DescriptorPoll(pipe[:1]).wait(-1.0)


def test_a_signal_handler_runs_during_the_wait(pipe):
    class Alarm(Exception):
        pass

    def handler(*_):
        raise Alarm

    def wait_long():
        for _ in range(100):
            DescriptorPoll(pipe[:1]).wait(10.0)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Alarm):
            wait_long()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
