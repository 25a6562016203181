"""A journal cut or damaged anywhere is gone on with: same events, once each, in order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import EVENT_ID, Column, Schema
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.journal.resume_point import find_commits
from sluice.pipeline.recording import RecordingReader, RecordingWriter, find_resume_offset

SCHEMA = Schema((EVENT_ID, Column("charge", "float32", (48,), "ADC")))
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


def test_only_the_end_of_a_long_journal_is_read(tmp_path):
    path = tmp_path / "long.arrows"
    none = EventBatch({c.name: c.empty(0) for c in SCHEMA}, 0)
    with RecordingWriter(path, SCHEMA) as writer:
        for seq in range(1000):
            writer.write(none, CommitRecord(next=seq + 1, events_by_batch=[0], kept=[0]).encode())
    assert len(find_resume_offset(path, 10).commits) == 9  # the end-of-run record is a batch, too
    _, commits = find_commits([path], 300)
    assert [commit.first for commit in commits] == list(range(300, 1000))
