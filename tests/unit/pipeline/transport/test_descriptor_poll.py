"""Waiting for descriptors: what ends the wait, and to less than a millisecond."""

from __future__ import annotations

import os
import signal
import time

import pytest

from sluice.pipeline.transport.descriptor_poll import DescriptorPoll


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
