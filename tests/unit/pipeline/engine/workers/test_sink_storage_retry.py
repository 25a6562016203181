"""A sink that is started again while the disk is full waits for disk space, and says so."""

from __future__ import annotations

import errno
import json
from types import SimpleNamespace

import pytest

from sluice.pipeline.core.errors import RunError
from sluice.pipeline.engine.distributed.sink_channel import SinkChannel
from sluice.pipeline.engine.workers import sink as sink_process
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.run.state import RunState, State
from sluice.pipeline.transport.protocol import Kind
from sluice.pipeline.transport.run_messages import DiskFull

GRAPH = SimpleNamespace(outputs=None)


class FullDiskSink:
    """A sink that cannot be opened the first `times` times."""

    disk_full_timeout_s = 60.0

    def __init__(self, times, number=errno.ENOSPC):
        self.times, self.number = times, number

    def open(self, *_):
        self.times -= 1
        if self.times >= 0:
            raise OSError(self.number, "cannot be")
        return [CommitRecord(next=5)]


class Ingest:
    def __init__(self):
        self.sent = []

    def send(self, header, payload):
        self.sent.append((header.kind, int(DiskFull.from_header(header).full), json.loads(payload)))


@pytest.fixture
def open_sink(monkeypatch):
    monkeypatch.setattr(sink_process, "RETRY_S", 0.001)

    def start(sink, ingest, since=3, orphaned=False):
        spec = SimpleNamespace(bor={}, first_seq=since, is_orphaned=lambda: orphaned)
        return sink_process._open_sink(sink, GRAPH, spec, ingest)

    return start


def test_it_waits_for_disk_space_and_says_so_once(open_sink):
    ingest = Ingest()
    assert open_sink(FullDiskSink(3), ingest) == [CommitRecord(next=5)]
    assert ingest.sent == [(Kind.DISK_FULL, 1, f"[Errno {errno.ENOSPC}] cannot be")]


def test_a_new_run_does_not_wait(open_sink):
    with pytest.raises(RunError, match=r"cannot open: .* cannot be"):
        open_sink(FullDiskSink(1), Ingest(), since=None)


def test_another_failure_is_not_retried(open_sink):
    with pytest.raises(RunError, match=r"cannot open: .* cannot be"):
        open_sink(FullDiskSink(1, errno.EIO), Ingest())


def test_it_gives_up_in_time(open_sink):
    sink = FullDiskSink(10**6)
    sink.disk_full_timeout_s = 0.05
    with pytest.raises(RunError, match=r"disk full for 0\.05 s"):
        open_sink(sink, Ingest())


@pytest.mark.parametrize("state", [State.RUNNING, State.CONFIGURED])
def test_a_run_is_paused_meanwhile_and_does_not_begin_without_disk_space(state):
    control = RunState()
    control.transition(State.CONFIGURED)
    link = SinkChannel(None, None, control)
    full = DiskFull(True).to_header(), [memoryview(b'"no room"')]
    if state is State.CONFIGURED:
        with pytest.raises(RunError, match="sink: cannot open: no room"):
            link.on_message("sink", *full)
        return
    control.transition(State.RUNNING)
    link.on_message("sink", *full)
    assert control.paused
    link.on_ready()
    assert not control.paused


def test_nobody_waits_without_an_engine(open_sink):
    with pytest.raises(RunError, match="the engine is gone"):
        open_sink(FullDiskSink(1), Ingest(), orphaned=True)
