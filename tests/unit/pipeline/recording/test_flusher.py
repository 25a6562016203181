"""What was written is flushed to the device within the time that the sink's option says."""

from __future__ import annotations

import errno
import os
import threading

import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError, RunError
from sluice.pipeline.core.schema import EVENT_ID, Schema
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.recording import flusher
from sluice.pipeline.sinks.recording import RecordingSink

SCHEMA = Schema((EVENT_ID,))


class Device:
    """Takes flushes instead of the operating system; says of each which file it was of."""

    def __init__(self):
        self.flushed = []
        self.come = threading.Semaphore(0)
        self.fails = False

    def __call__(self, descriptor):
        self.flushed.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        self.come.release()
        if self.fails:
            raise OSError(errno.EIO, "Input/output error")


@pytest.fixture
def device(monkeypatch):
    device = Device()
    monkeypatch.setattr(flusher.os, "fdatasync", device)
    return device


@pytest.fixture
def make_sink(tmp_path):
    made = []

    def make(**options):
        path = str(tmp_path / "run.arrows")
        sink = RecordingSink(
            "out", RecordingSink.Options(columns=("event_id",), path=path, **options)
        )
        sink.open(SCHEMA, {"run": 1})
        made.append(sink)
        return sink

    yield make
    for sink in made:
        sink.close(None)


def write(sink, seq):
    batch = EventBatch({"event_id": np.arange(100, dtype=np.uint64)}, 100, seq)
    sink.write(batch, CommitRecord(next=seq + 1, events_by_batch=[100], kept=[100]))


def test_flushed_in_time_and_only_after_a_write(make_sink, device):
    sink = make_sink(fsync="10 ms")
    assert not device.come.acquire(timeout=0.1)
    for seq in range(3):
        write(sink, seq)
        assert device.come.acquire(timeout=10)
    assert not device.come.acquire(timeout=0.1)
    assert set(device.flushed) == {"run.arrows"}


def test_each_part_is_flushed(make_sink, device):
    sink = make_sink(fsync="10 ms", rotate_bytes=500, compression="none")
    for seq in range(4):
        write(sink, seq)
        assert device.come.acquire(timeout=10)
    assert list(dict.fromkeys(device.flushed)) == [f"run-000{n}.arrows" for n in (1, 2, 3, 4)]


def test_with_fsync_never_nothing_is_flushed(make_sink, device):
    sink = make_sink(fsync="never")
    write(sink, 0)
    assert not device.come.acquire(timeout=0.2)
    assert not any(thread.name == "sluice-flusher" for thread in threading.enumerate())


def test_a_flush_that_fails_ends_the_run(make_sink, device):
    device.fails = True
    sink = make_sink(fsync="10 ms")
    write(sink, 0)
    assert device.come.acquire(timeout=10)
    sink._flusher.close()  # the thread has noted by now what came of the flush
    with pytest.raises(RunError, match=r"run\.arrows: cannot flush to the disk: .*Input/output"):
        write(sink, 1)


@pytest.mark.parametrize("option", ["fsync", "rotate_after"])
def test_a_duration_that_is_none_is_refused(make_sink, option):
    with pytest.raises(ConfigError, match=rf"sink 'out': {option}: expected a duration"):
        make_sink(**{option: "sometimes"})
