"""A journal cut or damaged anywhere is gone on with: same events, once each, in order."""

from __future__ import annotations

import contextlib
import os
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import EVENT_ID, Column, Schema
from sluice.pipeline.journal.commit import CommitRecord, read_commit
from sluice.pipeline.journal.resume_point import find_commits, read_resume_point
from sluice.pipeline.recording import (
    RecordingReader,
    RecordingWriter,
    find_resume_offset,
    record_file,
    tail,
)
from sluice.pipeline.recording import writer as writer_module

SCHEMA = Schema((EVENT_ID, Column("charge", "float32", (48,), "ADC")))
IDS = Schema((EVENT_ID,))
SIZES = (5, 0, 300, 1, 64, 0, 0, 70)


def batch_of(seq):
    events = SIZES[seq]
    rng = np.random.default_rng(seq)
    ids = np.arange(events, dtype=np.uint64) + np.uint64(1000 * seq)
    charge = rng.random((events, 48), np.float32)
    return EventBatch({"event_id": ids, "charge": charge}, events, seq)


def write(writer, first):
    for seq in range(first, len(SIZES)):
        commit = CommitRecord(
            next=seq + 1,
            events_by_batch=[SIZES[seq]],
            kept=[SIZES[seq]],
            counts=(0, sum(SIZES[: seq + 1]), *[0] * 6),
        )
        writer.write(batch_of(seq), commit.encode())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("journal") / "whole.arrows"
    with RecordingWriter(path, SCHEMA, {"run": 5, "graph": "x"}) as writer:
        write(writer, 0)
    return path


def contents(path):
    reader = RecordingReader(path)
    try:
        batches = [(b.seq, b.events, b["charge"].tobytes()) for b in reader.batches()]
        return batches, reader.corruption, reader.eor, reader.bor
    finally:
        reader.close()


def go_on(path):
    tail, commits = find_commits([path], 0)
    first = commits[-1].next if commits else 0
    with RecordingWriter(path, SCHEMA, tail=tail) as writer:
        write(writer, first)
    return first


def head_of(content):
    return 8 + int.from_bytes(content[4:8], "little")


def check_cut(whole, size, rubbish):
    content = whole.read_bytes()
    path = whole.with_name("cut.arrows")
    path.write_bytes(content[:size] + rubbish)
    # The rubbish may begin as the rest did: with the zeros that pad it.
    if not path.read_bytes().startswith(content[: head_of(content)]):
        with pytest.raises(DataError, match=r"cut\.arrows"):
            find_resume_offset(path)
        return
    go_on(path)
    assert contents(path) == contents(whole)
    assert path.stat().st_size == whole.stat().st_size


@given(st.floats(0, 1, exclude_max=True), st.binary(max_size=40))
def test_cut_anywhere_and_gone_on_with(whole, where, rubbish):
    check_cut(whole, int(where * whole.stat().st_size), rubbish)


@pytest.mark.parametrize("missing", [1, 2, 8])
def test_rubbish_that_is_what_was_cut_off_makes_the_head_whole(whole, missing):
    head = head_of(content := whole.read_bytes())
    check_cut(whole, head - missing, content[head - missing : head])
    check_cut(whole, head - missing, content[head - missing : head - 1])


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_flipped_byte_is_not_gone_on_with(whole, where, flip):
    content = bytearray(whole.read_bytes())
    at = head_of(content) + int(where * (len(content) - head_of(content)))
    content[at] ^= flip
    path = whole.with_name("flipped.arrows")
    path.write_bytes(content)
    go_on(path)
    batches, damage, *_ = contents(path)
    assert batches == contents(whole)[0]
    assert damage is None


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_a_flipped_bit_never_changes_events_unseen(whole, where, bit):
    content = bytearray(whole.read_bytes())
    at = head_of(content) + int(where * (len(content) - head_of(content)))
    content[at] ^= 1 << bit
    path = whole.with_name("bit.arrows")
    path.write_bytes(content)
    good = set(contents(whole)[0])
    try:
        batches, damage, *_ = contents(path)
    except DataError:
        return
    assert set(batches) <= good
    if len(batches) < len(good):
        assert "bit.arrows" in damage


def test_a_flipped_bit_is_named(whole):
    with RecordingWriter(whole.with_name("plain.arrows"), SCHEMA, compression="none") as writer:
        write(writer, 0)
    content = bytearray(writer.path.read_bytes())
    at = content.index(batch_of(2)["charge"].tobytes()) + 1000
    content[at] ^= 1
    writer.path.write_bytes(content)
    batches, damage, eor, _ = contents(writer.path)
    assert "plain.arrows: batch 2 (of 300 events): expected the checksum" in damage
    assert [seq for seq, *_ in batches] == [0, 3, 4, 7]
    assert eor["events"] == sum(SIZES)


@pytest.mark.parametrize("compression", ["zstd", "lz4", "none"])
def test_each_compression_reads_the_same(whole, tmp_path, compression):
    path = tmp_path / "c.arrows"
    with RecordingWriter(path, SCHEMA, {"run": 5, "graph": "x"}, compression=compression) as writer:
        write(writer, 0)
    assert contents(path) == contents(whole)
    assert writer.bytes == path.stat().st_size


def test_commits_from_a_batch_on(whole):
    tail, commits = find_commits([whole], 4)
    assert tail.ended
    assert tail.rows == sum(SIZES)
    assert [commit.first for commit in commits] == [4, 5, 6, 7]
    _, commits = find_commits([whole], len(SIZES))
    assert [commit.next for commit in commits] == [len(SIZES)]
    with pytest.raises(DataError, match=r"expected the batches up to 9, got those up to 8"):
        find_commits([whole], 9)


def long_journal(path, batches, events=0, **options):
    """Write a journal of many batches, each with one event id `events` times."""
    with RecordingWriter(path, IDS, {"run": 5}, **options) as writer:
        for seq in range(batches):
            ids = np.full(events, seq, np.uint64)
            commit = CommitRecord(next=seq + 1, events_by_batch=[events], kept=[events])
            writer.write(EventBatch({"event_id": ids}, events, seq), commit.encode())


def bytes_read(monkeypatch):
    """Return a list that takes the sizes of the reads of a `RecordFile`."""
    sizes, pread = [], os.pread

    def noted(descriptor, size, offset):
        sizes.append(size)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", noted)
    return sizes


@pytest.mark.parametrize("end", [0, 1, 3000])
def test_only_the_end_of_a_long_recording_is_read(tmp_path, monkeypatch, end):
    """How much is read does not depend on the length of the file, also of a torn one."""
    monkeypatch.setattr(tail, "_CHECKED_BYTES", 1 << 14)
    monkeypatch.setattr(record_file, "_CHUNK_BYTES", 1 << 14)
    sizes = []
    for number, batches in enumerate((200, 1_000)):
        path = tmp_path / f"{number}.arrows"
        long_journal(path, batches, events=20, compression="none")
        os.truncate(path, path.stat().st_size - end)
        with monkeypatch.context() as patch:
            read = bytes_read(patch)
            found = find_resume_offset(path)
        assert found.batches >= batches - 5
        assert read_commit(found.commits[-1], "").next == found.batches
        sizes.append(sum(read))
    assert sizes[1] < path.stat().st_size / 5
    assert sizes[1] == pytest.approx(sizes[0], rel=0.2)


def test_older_commits_are_found_without_another_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tail, "_CHECKED_BYTES", 1 << 14)
    path = tmp_path / "long.arrows"
    long_journal(path, 1_000)
    end = find_resume_offset(path)
    for since in (300, 0, 999, 1000):
        found, commits = find_commits([path], since)
        assert (found.end, found.batches, found.rows) == (end.end, 1000, 0)
        assert [commit.first for commit in commits] == list(range(min(since, 999), 1000))


def test_a_recording_without_places_is_read_as_before(tmp_path, monkeypatch):
    """As earlier versions wrote it, also continued by this one."""
    path = tmp_path / "old.arrows"
    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "PLACE", b"other.key")
        patch.setattr(writer_module.RecordingWriter, "_head_metadata", lambda _, head: head)
        long_journal(path, 30, events=3)
    old = find_resume_offset(path)
    assert (old.batches, old.rows, len(old.commits)) == (30, 90, 30)
    with RecordingWriter(path, IDS, tail=old) as writer:
        writer.write(EventBatch({"event_id": np.full(2, 30, np.uint64)}, 2, 30))
    assert find_resume_offset(path).rows == 92
    reader = RecordingReader(path)
    assert [int(i) for batch in reader.batches() for i in batch["event_id"]] == [
        *np.repeat(np.arange(30), 3), 30, 30,
    ]  # fmt: skip
    assert reader.corruption is None
    reader.close()


def test_text_that_reads_as_a_place_is_no_record(tmp_path):
    """Events whose bytes are a place, or a record batch of another file with its place."""
    inner = tmp_path / "inner.arrows"
    long_journal(inner, 3, events=2)
    bytes_ = inner.read_bytes() + b"@1000#3@2000#4" * 40
    column = Column("bytes", "uint8", (len(bytes_),))
    schema, path = Schema((EVENT_ID, column)), tmp_path / "outer.arrows"
    data = np.frombuffer(bytes_, np.uint8).reshape(1, -1)
    with RecordingWriter(path, schema, {"run": 6}, compression="none") as writer:
        for seq in range(4):
            batch = EventBatch({"event_id": np.full(1, seq, np.uint64), "bytes": data}, 1, seq)
            writer.write(batch)
    found = find_resume_offset(path)
    assert (found.batches, found.rows, found.ended) == (4, 4, True)
    os.truncate(path, found.end - 1)
    assert find_resume_offset(path).batches == 3


def test_a_flipped_bit_in_the_head_is_named(whole):
    content = bytearray(whole.read_bytes())
    content[content.index(b'{"run":5') + 7] ^= 4  # run 5 reads as run 1
    path = whole.with_name("head.arrows")
    path.write_bytes(content)
    with pytest.raises(DataError, match="begin-of-run record: bytes have changed"):
        read_resume_point(path)
    _, damage, *_ = contents(path)
    assert "head.arrows: begin-of-run record: bytes have changed" in damage


def test_a_missing_commit_record_is_named(tmp_path):
    """A damaged record batch among those that ingest may not have as acknowledged."""
    path = tmp_path / "gap.arrows"
    with RecordingWriter(path, IDS) as writer:
        for seq in (0, 1, 2, 5, 6):
            ids = np.full(3, seq, np.uint64)
            commit = CommitRecord(next=seq + 1, events_by_batch=[3], kept=[3])
            writer.write(EventBatch({"event_id": ids}, 3, seq), commit.encode())
    with pytest.raises(DataError, match="expected the commit record of batch 3, got that of"):
        find_commits([path], 1)
    assert len(find_commits([path], 5)[1]) == 2


@given(st.integers(0, 10**9), st.sampled_from(["cut", "zeros", "noise", "flip", "stale"]))
def test_engine_and_sink_agree_on_the_end_whatever_tore_it(whole, random, how):
    """What the engine resumes after is what the sink goes on after, and never more than was."""
    content, draw = bytearray(whole.read_bytes()), Random(random)
    count = draw.randint(0, len(content))
    if how == "cut":
        del content[len(content) - count :]
    elif how == "zeros":
        content[len(content) - count :] = bytes(count)
    elif how == "noise":
        content[len(content) - count :] = draw.randbytes(count)
    elif how == "flip":
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    else:
        content += draw.randbytes(draw.randint(1, 5_000))
    path = whole.with_name("torn.arrows")
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        commit = read_resume_point(path).commit
        found, commits = find_commits([path], commit.next)
        assert (commits[-1] if commits else CommitRecord()) == commit
        assert found.rows == sum(SIZES[: commit.next]) == commit.events
