"""A rotated recording: read as one, and continued whatever stopped the writing of a new file."""

from __future__ import annotations

import errno
import math
import os

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError, RunError
from sluice.pipeline.core.schema import EVENT_ID, Schema
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.journal.resume_point import find_commits, read_resume_point
from sluice.pipeline.recording import (
    Recording,
    RecordingReader,
    RecordingWriter,
    RotatingWriter,
    Rotation,
    find_files,
    find_parts,
    find_resume_offset,
    part_path,
)
from sluice.pipeline.recording import rotation as rotating
from sluice.pipeline.sources.recording import RecordingSource

SCHEMA = Schema((EVENT_ID,))
BOR = {"run": 7}
#: So small that each batch of 100 events begins a new file.
EVERY = Rotation(bytes=900)


def batch_of(seq):
    return EventBatch({"event_id": np.arange(100, dtype=np.uint64) + 100 * seq}, 100, seq)


def write(writer, first, stop):
    for seq in range(first, stop):
        commit = CommitRecord(
            next=seq + 1,
            events_by_batch=[100],
            kept=[100],
            counts=(0, 100 * (seq + 1), *[0] * 6),
            written=100 * seq,
        )
        writer.write(batch_of(seq), commit.encode())


def begin(folder, rotation=EVERY, bor=BOR, compression="none"):
    return RotatingWriter(folder / "run.arrows", SCHEMA, bor, rotation, compression=compression)


def go_on(folder, stop, rotation=EVERY):
    """Go on with a recording as a sink does, and end it; return from which batch on."""
    path = folder / "run.arrows"
    tail, commits = find_commits(find_files(path), 0)
    first = commits[-1].next if commits else 0
    writer = RotatingWriter(path, SCHEMA, BOR, rotation, compression="none", tail=tail)
    write(writer, first, stop)
    writer.close({"run": 7})
    return first


def read(path):
    """Return event ids, damage and end-of-run record."""
    recording = Recording(path)
    ids = [int(i) for batch in recording.batches() for i in batch["event_id"]]
    recording.close()
    return ids, recording.corruption, recording.eor


@pytest.fixture
def five(tmp_path):
    """A folder with a rotated recording of five files of 100 events each."""
    writer = begin(tmp_path)
    write(writer, 0, 5)
    writer.close({"run": 7})
    assert writer.files == 5
    assert writer.events == 500
    return tmp_path


def assert_whole(folder, batches):
    ids, damage, eor = read(folder / "run.arrows")
    assert ids == list(range(100 * batches))
    assert damage is None
    assert eor["run"] == 7
    sizes = sum(file.stat().st_size for file in folder.iterdir())
    assert sizes == sum(f.stat().st_size for f in find_parts(folder / "run.arrows").values())


@pytest.mark.parametrize("name", ["run.arrows", "", "run*.arrows", "r*"])
def test_any_name_of_it_reads_all_parts(five, name):
    ids, damage, eor = read(five / name)
    assert ids == list(range(500))
    assert damage is None
    assert eor == {"events": 100, "part": 5, "run": 7}


@pytest.mark.parametrize("number", [2, 3, 5])
def test_a_part_is_readable_by_itself(five, number):
    path = part_path(five / "run.arrows", number)
    ids, damage, _ = read(path)
    assert ids == list(range(100 * number - 100, 100 * number))
    assert damage is None
    reader = RecordingReader(path)
    assert reader.bor == BOR
    assert (reader.part.number, reader.part.events) == (number, 100 * number - 100)
    reader.close()
    with pa.OSFile(str(path)) as file:
        assert pa.ipc.open_stream(file).read_all().num_rows == 100


def test_the_source_reads_all_parts(five):
    source = RecordingSource("in", RecordingSource.Options(str(five), repeat=2))
    source.open()
    found = []
    while (batch := source.read(130)) is not None:
        found += batch["event_id"].tolist()
    source.close()
    assert found == 2 * list(range(500))
    assert source.corruption is None


@pytest.mark.parametrize("name", ["run.arrows", ""])
@pytest.mark.parametrize("number", [2, 4])
def test_a_missing_part_is_named(five, name, number):
    part_path(five / "run.arrows", number).unlink()
    said = (
        f"run.arrows: a file is missing: expected run-000{number}.arrows after "
        f"{part_path(five / 'run.arrows', number - 1).name}, got run-000{number + 1}.arrows"
    )
    with pytest.raises(DataError, match=said):
        Recording(five / name)
    with pytest.raises(DataError, match=said):
        read_resume_point(five / "run.arrows")


def test_a_missing_first_or_last_part_is_named(five):
    part_path(five / "run.arrows", 5).unlink()
    ids, damage, _ = read(five)
    assert ids == list(range(400))
    assert "run-0004.arrows: cut short: expected to continue in run-0005.arrows" in damage
    part_path(five / "run.arrows", 1).unlink()
    with pytest.raises(DataError, match=r"expected run\.arrows, got run-0002\.arrows"):
        Recording(five / "run.arrows")


def test_parts_of_two_runs_are_not_one_recording(five, tmp_path):
    other = tmp_path / "other"
    writer = begin(other, bor={"run": 8})
    write(writer, 0, 5)
    writer.close({"run": 8})
    (other / "run-0003.arrows").rename(five / "run-0003.arrows")
    with pytest.raises(DataError, match=r"run-0003\.arrows: expected a file of run 7"):
        read(five / "run.arrows")


def test_a_folder_of_two_recordings_says_which(five):
    RecordingWriter(five / "more.arrows", SCHEMA).close()
    with pytest.raises(DataError, match=r"of one recording, got more\.arrows, run\.arrows"):
        Recording(five)
    assert read(five / "run*")[1] is None


def test_names_alone_make_no_parts(tmp_path):
    """A file that happens to end in a number is a recording by itself, and stays."""
    path = tmp_path / "run-2024.arrows"
    with RecordingWriter(path, SCHEMA) as writer:
        writer.write(batch_of(0))
    assert read(path)[0] == list(range(100))
    with pytest.raises(DataError, match=r"run\.arrows: cannot open"):
        Recording(tmp_path / "run.arrows")
    with RecordingWriter(tmp_path / "run.arrows", SCHEMA) as writer:
        writer.write(batch_of(1))
    assert read(tmp_path / "run.arrows")[0] == list(range(100, 200))
    begin(tmp_path).close()
    assert path.exists()
    assert read(tmp_path / "run.arrows")[:2] == ([], None)


def test_a_new_recording_replaces_all_parts(five):
    writer = begin(five)
    write(writer, 0, 2)
    writer.close({"run": 7})
    assert_whole(five, 2)


def test_one_writer_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("sluice.pipeline.recording.lock._TIMEOUT_S", 0.2)
    writer = begin(tmp_path)
    write(writer, 0, 3)
    with pytest.raises(OSError, match="another process writes to it"):
        begin(tmp_path)
    write(writer, 3, 4)
    writer.close({"run": 7})
    assert_whole(tmp_path, 4)


def test_a_part_is_full_by_bytes_or_by_time(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(rotating.time, "monotonic", lambda: clock[0])
    writer = begin(tmp_path, Rotation(bytes=10**6, after_s=60.0))
    write(writer, 0, 3)
    clock[0] = 59.9
    write(writer, 3, 4)
    assert writer.files == 1
    clock[0] = 60.0
    write(writer, 4, 5)
    assert writer.files == 2
    clock[0] = 1e9
    writer.close({"run": 7})
    assert_whole(tmp_path, 5)
    assert not Rotation()
    assert Rotation(after_s=1.0)
    assert Rotation().after_s == math.inf


def test_an_empty_part_gets_no_successor(tmp_path):
    writer = begin(tmp_path, Rotation(bytes=1))
    assert writer.files == 1
    write(writer, 0, 1)
    assert writer.files == 1
    writer.close({"run": 7})
    assert_whole(tmp_path, 1)


def head_bytes(content):
    """Return the size of the schema with which a file begins."""
    return 8 + int.from_bytes(content[4:8], "little")


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 6))
def test_the_last_part_cut_anywhere_is_gone_on_with(tmp_path_factory, where, last):
    """Continue like a sink that was killed while it wrote, or between two files."""
    folder = tmp_path_factory.mktemp("torn")
    writer = begin(folder)
    write(writer, 0, last)
    writer.close({"run": 7})
    path = part_path(folder / "run.arrows", last)
    content = path.read_bytes()
    # Without the begin-of-run record in the only file there is no run to go on with.
    path.write_bytes(content[: max(head_bytes(content) * (last == 1), int(where * len(content)))])
    assert go_on(folder, 8) in (last - 1, last)
    assert_whole(folder, 8)


def test_a_part_cut_at_any_byte_of_its_schema_and_first_batch_is_gone_on_with(tmp_path):
    writer = begin(tmp_path)
    write(writer, 0, 2)
    writer.close({"run": 7})
    first, cut = find_parts(tmp_path / "run.arrows").values()
    before, content = first.read_bytes(), cut.read_bytes()
    head, first_batch_end = head_bytes(content), find_resume_offset(cut).end
    for size in range(first_batch_end + 1):
        cut.write_bytes(content[:size])
        assert find_files(first) == ([first] if size < head else [first, cut])
        if size % 200 == 0 or size in (head, first_batch_end):
            kept = 1 + (size == first_batch_end)
            assert (read(first)[0], read(first)[1] is None) == (list(range(100 * kept)), False)
            assert read_resume_point(first).commit.next == kept
            assert go_on(tmp_path, 2) == kept
            assert_whole(tmp_path, 2)
            first.write_bytes(before)


@pytest.mark.parametrize("place", [2, 6, 7, "begin of run"])
def test_a_part_with_data_whose_schema_has_changed_is_not_taken_as_cut(five, place):
    path = part_path(five / "run.arrows", 5)
    content = bytearray(path.read_bytes())
    content[content.index(b'{"run"') + 3 if place == "begin of run" else place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"run-0005\.arrows: cannot continue"):
        read_resume_point(five / "run.arrows")
    assert path.read_bytes() == content


def test_the_only_part_cut_in_its_schema_is_no_run(tmp_path):
    path = tmp_path / "run.arrows"
    for size in (0, 3, 200):
        path.write_bytes(b"\xff\xff\xff\xff\0\1\0\0".ljust(size, b"x")[:size])
        with pytest.raises(DataError, match="cannot continue"):
            read_resume_point(path)


class Killed(BaseException):
    """In place of SIGKILL: nothing of the writer's runs afterwards."""


@pytest.mark.parametrize("step", ["make", "flush", "end", "rename", "after"])
def test_killed_at_each_step_to_a_new_part(tmp_path, monkeypatch, step):
    def die(*_):
        raise Killed

    writer = begin(tmp_path)
    write(writer, 0, 3)
    with monkeypatch.context() as patch:
        if step == "make":
            patch.setattr(rotating.RotatingWriter, "_open_writer", die)
        elif step == "flush":
            patch.setattr(rotating.os, "fsync", die)
        elif step == "end":
            patch.setattr(rotating.RecordingWriter, "end", die)
        elif step == "rename":
            patch.setattr(rotating.Path, "rename", die)
        else:
            patch.setattr(rotating, "flush_folder", die)
        with pytest.raises(Killed):
            write(writer, 3, 4)
    writer.close_incomplete()
    point = read_resume_point(tmp_path / "run.arrows")
    assert point.commit.next == 3
    assert point.bor == BOR
    ids, damage, _ = read(tmp_path / "run.arrows")
    assert ids == list(range(300))
    assert damage is not None
    assert go_on(tmp_path, 6) == 3
    assert_whole(tmp_path, 6)


@pytest.mark.parametrize("step", ["make", "end"])
def test_no_disk_space_for_a_new_part_loses_nothing(tmp_path, monkeypatch, step):
    writer = begin(tmp_path)
    write(writer, 0, 3)
    before = sorted((p.name, p.stat().st_size) for p in tmp_path.iterdir())

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if step == "make":
            patch.setattr(rotating, "RecordingWriter", full)
        else:
            patch.setattr(rotating.RecordingWriter, "end", full)
        for _ in range(3):
            with pytest.raises(OSError, match="No space left"):
                write(writer, 3, 4)
    assert sorted((p.name, p.stat().st_size) for p in tmp_path.iterdir()) == before
    write(writer, 3, 5)
    writer.close({"run": 7})
    assert_whole(tmp_path, 5)


def test_a_run_that_ends_without_disk_space_for_a_new_part_ends_its_last(tmp_path, monkeypatch):
    writer = begin(tmp_path)
    write(writer, 0, 3)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(rotating, "RecordingWriter", full)
        with pytest.raises(OSError, match="No space left"):
            write(writer, 3, 4)
    writer.close({"run": 7})
    assert_whole(tmp_path, 3)


def test_what_cannot_get_its_name_ends_the_run(tmp_path, monkeypatch):
    writer = begin(tmp_path)
    write(writer, 0, 3)

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(rotating.Path, "rename", broken)
    with pytest.raises(RunError, match=r"rename .*run-0004\.arrows\.new to run-0004\.arrows"):
        write(writer, 3, 4)
    writer.close_incomplete()


def test_commits_are_looked_for_across_parts(five):
    files = list(find_parts(five / "run.arrows").values())
    for since in range(6):
        _, commits = find_commits(files, since)
        assert [c.next for c in commits] == ([*range(since + 1, 6)] or [5])
    with pytest.raises(DataError, match="expected the batches up to 6, got those up to 5"):
        find_commits(files, 6)
    _, commits = find_commits(files[3:], 4)  # a sink reads no file that is committed
    assert [c.next for c in commits] == [5]


def test_an_ended_recording_is_resumed_at_its_end(five):
    point = read_resume_point(five / "run.arrows")
    assert (point.bor["run"], point.commit.next) == (7, 5)
    with pytest.raises(DataError, match=r"none\.arrows: cannot open"):
        read_resume_point(five / "none.arrows")


def test_a_foreign_file_in_the_place_of_the_next_is_not_replaced(tmp_path):
    writer = begin(tmp_path)
    write(writer, 0, 1)
    foreign = tmp_path / "run-0002.arrows"
    foreign.write_text("of somebody")
    with pytest.raises(RunError, match=r"run-0002\.arrows: exists already"):
        write(writer, 1, 2)
    writer.close_incomplete()
    assert foreign.read_text() == "of somebody"
    foreign.unlink()
    assert go_on(tmp_path, 3) == 1
    assert_whole(tmp_path, 3)


def test_descriptors_do_not_pile_up(tmp_path):
    writer = begin(tmp_path)
    write(writer, 0, 2)
    before = len(os.listdir("/proc/self/fd"))
    write(writer, 2, 30)
    assert len(os.listdir("/proc/self/fd")) == before
    writer.close({"run": 7})
    assert_whole(tmp_path, 30)
