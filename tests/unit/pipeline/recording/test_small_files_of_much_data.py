"""A record batch of a file is bounded before it is unpacked: a few bytes may announce any size."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest

from sluice.pipeline.core import arrow_message
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import EVENT_ID, Column, Schema
from sluice.pipeline.recording import RecordingReader, RecordingWriter, find_resume_offset
from sluice.pipeline.tools.recording_summary import summarise_recording

FIXED = Schema((EVENT_ID, Column("x", "float32", (8,))))
ROWS = 200_000


def batch_of(rows, seq, x):
    columns = {"event_id": np.zeros(rows, np.uint64), "x": np.full((rows, 8), x, np.float32)}
    return EventBatch(columns, rows, seq)


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(arrow_message, "MAX_UNPACKED_BYTES", 1 << 20)


def read(path):
    """Return the numbers of events, the damage, and the most memory that Arrow took, bytes."""
    pool, before = pa.default_memory_pool(), pa.default_memory_pool().bytes_allocated()
    reader = RecordingReader(path)
    found, peak = [], 0
    for batch in reader.batches():
        found.append(batch.events)
        peak = max(peak, pool.bytes_allocated() - before)
    reader.close()
    return found, reader.corruption, peak


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_batch_that_unpacks_to_too_much_is_damage(tmp_path, small_limit, codec):
    path = tmp_path / "b.arrows"
    with RecordingWriter(path, FIXED, {"run": 1}, compression=codec) as writer:
        for seq, rows in enumerate((10, ROWS, 20)):
            writer.write(batch_of(rows, seq, 0.0))
    found, damage, peak = read(path)
    assert found == [10, 20]
    assert f"batch 1 (of {ROWS} events): record batch: expected at most " in damage
    assert damage.endswith(f"got {ROWS * 8 + ROWS * 32}")
    assert peak < 1 << 20
    assert not summarise_recording(path).whole
    assert find_resume_offset(path).batches == 1


def test_a_large_file_may_unpack_to_a_multiple_of_its_size(tmp_path, small_limit):
    """Memory in proportion to what is on the disk is no surprise."""
    path = tmp_path / "b.arrows"
    rng = np.random.default_rng(1)
    with RecordingWriter(path, FIXED, {"run": 1}) as writer:
        batch = batch_of(ROWS, 0, 0.0)
        writer.write(batch.with_columns(x=rng.random((ROWS, 8), np.float32)))
    assert read(path)[:2] == ([ROWS], None)


@pytest.mark.parametrize("announced", [1 << 40, -5, -(1 << 62)])
def test_an_announced_size_of_any_kind_is_refused(tmp_path, announced):
    """The size before a buffer is altered."""
    path = tmp_path / "b.arrows"
    with RecordingWriter(path, FIXED, {"run": 1}) as writer:
        writer.write(batch_of(ROWS, 0, 0.0))
    content = path.read_bytes()
    size = struct.pack("<q", ROWS * 32)
    assert content.count(size) == 1
    path.write_bytes(content.replace(size, struct.pack("<q", announced)))
    found, damage, peak = read(path)
    assert found == []
    assert "record batch: expected" in damage
    assert str(announced) in damage or str(announced + ROWS * 8) in damage
    assert peak < 1 << 20


def test_buffers_that_are_not_compressed_are_read(tmp_path):
    """Arrow leaves a buffer as it is where packing makes it no smaller."""
    path = tmp_path / "b.arrows"
    rng = np.random.default_rng(2)
    batch = batch_of(50, 0, 0.0).with_columns(x=rng.random((50, 8), np.float32))
    with RecordingWriter(path, FIXED, {"run": 1}) as writer:
        writer.write(batch)
    reader = RecordingReader(path)
    (got,) = reader.batches()
    np.testing.assert_array_equal(got["x"], batch["x"])
    assert reader.corruption is None
    reader.close()


def test_metadata_that_is_none_is_refused():
    for data in (b"", b"\xff" * 40, bytes(range(200))):
        with pytest.raises(DataError, match="not Arrow's metadata"):
            arrow_message.body_bytes(data)
