"""What was written is flushed to the device within the time that the sink's option says."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError, RunError
from sluice.pipeline.core.schema import EVENT_ID, Schema
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.recording import find_resume_offset, flusher
from sluice.pipeline.sinks.recording import RecordingSink

SCHEMA = Schema((EVENT_ID,))
EVENTS = 100
ERRORS = [errno.EIO, errno.ENOSPC, errno.EDQUOT]


class Device:
    """Takes flushes instead of the operating system; says of each which file it was of."""

    def __init__(self):
        self.flushed = []
        self.come = threading.Semaphore(0)
        self.error: int | None = None

    def __call__(self, descriptor):
        self.flushed.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        error = self.error
        self.come.release()
        if error is not None:
            raise OSError(error, os.strerror(error))


@pytest.fixture
def device(monkeypatch):
    device = Device()
    monkeypatch.setattr(flusher.os, "fdatasync", device)
    return device


@pytest.fixture
def make_sink(tmp_path, device):
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
    device.error = None
    for sink in made:
        with suppress(RunError):  # of a flush that failed
            sink.close(None)


def write(sink, seq):
    ids = np.arange(EVENTS, dtype=np.uint64) + seq * EVENTS
    commit = CommitRecord(next=seq + 1, events_by_batch=[EVENTS], kept=[EVENTS])
    sink.write(EventBatch({"event_id": ids}, EVENTS, seq), commit)


def recorded(path):
    ids = []
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        while True:
            try:
                ids += stream.read_next_batch()["event_id"].to_pylist()
            except (StopIteration, OSError):
                return ids


def fail_once_written(sink, device, error):
    """Write a batch; its flush fails, and the thread of the flusher has noted that."""
    device.error = error
    write(sink, 0)
    assert device.come.acquire(timeout=10)
    with sink._flusher._lock:  # held until the error is noted
        pass


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
    names = ["run.arrows", *(f"run-000{n}.arrows" for n in (2, 3, 4))]
    assert list(dict.fromkeys(device.flushed)) == names


def test_with_fsync_never_nothing_is_flushed(make_sink, device):
    sink = make_sink(fsync="never")
    write(sink, 0)
    assert not device.come.acquire(timeout=0.2)
    assert not any(thread.name == "sluice-flusher" for thread in threading.enumerate())


@pytest.mark.parametrize("error", ERRORS)
def test_a_flush_that_fails_ends_the_run(make_sink, device, tmp_path, error):
    sink = make_sink(fsync="10 ms")
    fail_once_written(sink, device, error)
    device.error = None  # the kernel tells of lost pages once
    words = rf"run\.arrows: cannot flush to the disk: .*{os.strerror(error)}"
    for _ in range(2):
        with pytest.raises(RunError, match=words):
            write(sink, 1)
    assert recorded(tmp_path / "run.arrows") == list(range(EVENTS))


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("fsync", ["10 ms", "1 h"])
@pytest.mark.parametrize("eor", [{"closed": True}, None], ids=["", "of a failed run"])
def test_the_last_flush_that_fails_is_said_and_the_recording_is_not_whole(
    make_sink, device, tmp_path, fsync, error, eor
):
    sink = make_sink(fsync=fsync)
    if fsync == "10 ms":  # fails in the thread, and no write comes after it
        fail_once_written(sink, device, error)
        device.error = None
    else:  # fails at the end
        write(sink, 0)
        device.error = error
    with pytest.raises(RunError, match="cannot flush to the disk"):
        sink.close(eor)
    device.error = None
    found = find_resume_offset(tmp_path / "run.arrows")
    assert (found.ended, found.rows) == (False, EVENTS)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("rotate_bytes", [0, 500])
def test_the_flush_of_a_file_that_ends_is_never_tried_again(
    make_sink, tmp_path, monkeypatch, error, rotate_bytes
):
    """Without flushes at intervals it is the first of all that the file holds."""
    sink = make_sink(fsync="never", rotate_bytes=rotate_bytes, compression="none")
    write(sink, 0)
    (file,) = tmp_path.iterdir()

    def fail_once(descriptor):
        if os.path.samefile(f"/proc/self/fd/{descriptor}", file):
            monkeypatch.undo()  # the kernel tells of lost pages once
            raise OSError(error, os.strerror(error))

    monkeypatch.setattr(flusher.os, "fsync", fail_once)
    with pytest.raises(RunError, match=rf"{file.name}: cannot flush .*{os.strerror(error)}"):
        write(sink, 1) if rotate_bytes else sink.close({"closed": True})
    found = find_resume_offset(file)
    assert (found.ended, found.rows) == (False, EVENTS)
    assert recorded(file) == list(range(EVENTS))
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_flushed_at_all_ends_no_run():
    sink = RecordingSink("out", RecordingSink.Options(columns=("event_id",), path="/dev/null"))
    sink.open(SCHEMA, {"run": 1})
    write(sink, 0)
    sink.close({"closed": True})
    assert (sink.describe()["path"], sink.describe()["events"]) == ("/dev/null", EVENTS)


@pytest.mark.parametrize("option", ["fsync", "rotate_after"])
def test_a_duration_that_is_none_is_refused(make_sink, option):
    with pytest.raises(ConfigError, match=rf"sink 'out': {option}: expected a duration"):
        make_sink(**{option: "sometimes"})
