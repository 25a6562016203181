"""A recording cut or damaged anywhere yields a prefix of whole batches and names the damage."""

from __future__ import annotations

import contextlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import EVENT_ID, Column, Schema
from sluice.pipeline.recording import RecordingReader, RecordingWriter
from sluice.pipeline.testing import batches

SCHEMA = Schema((EVENT_ID, Column("charge", "float32", (48,), "ADC")))
SIZES = (5, 0, 300, 1, 64, 700)


def batch_of(events, seq):
    rng = np.random.default_rng(seq)
    ids = np.arange(events, dtype=np.uint64) + np.uint64(1000 * seq)
    return EventBatch(
        {"event_id": ids, "charge": rng.random((events, 48), np.float32)}, events, seq
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "whole.arrows"
    with RecordingWriter(path, SCHEMA, {"run": 5, "graph": "x"}) as writer:
        for seq, events in enumerate(SIZES):
            writer.write(batch_of(events, seq))
    return path


def read(path):
    """Return the batches, the damage and the end-of-run record."""
    reader = RecordingReader(path)
    try:
        return list(reader.batches()), reader.corruption, reader.eor
    finally:
        reader.close()


def assert_prefix(found):
    expected = [(seq, events) for seq, events in enumerate(SIZES) if events]
    assert [(batch.seq, batch.events) for batch in found] == expected[: len(found)]
    for batch in found:
        wanted = batch_of(batch.events, batch.seq)
        for name in SCHEMA.names:
            np.testing.assert_array_equal(batch[name], wanted[name])


def head_of(content):
    """Return the size of the schema message, without which nothing can be read."""
    return 8 + int.from_bytes(content[4:8], "little")


def test_whole_recording(whole):
    found, damage, eor = read(whole)
    assert_prefix(found)
    assert sum(batch.events for batch in found) == sum(SIZES)
    assert damage is None
    assert eor == {"events": sum(SIZES)}
    reader = RecordingReader(whole)
    assert reader.schema == SCHEMA
    assert reader.bor == {"run": 5, "graph": "x"}
    reader.close()


def test_plain_pyarrow_opens_it(whole):
    with pa.OSFile(str(whole)) as file:
        table = pa.ipc.open_stream(file).read_all()
    assert table.num_rows == sum(SIZES)
    assert table.schema.names == list(SCHEMA.names)
    assert table["charge"].type.list_size == 48
    assert table.schema.field("charge").metadata[b"unit"] == b"ADC"


@given(st.floats(0, 1, exclude_max=True))
def test_cut_anywhere(whole, tmp_path_factory, where):
    content = whole.read_bytes()
    size = int(where * len(content))
    path = whole.with_name("cut.arrows")
    path.write_bytes(content[:size])
    if size < head_of(content):
        with pytest.raises(DataError, match=r"cut\.arrows"):
            RecordingReader(path)
        return
    found, damage, eor = read(path)
    assert_prefix(found)
    if eor is None:
        assert "cut.arrows" in damage
        assert "whole batches" in damage
    else:  # only Arrow's end mark is missing: nothing is lost
        assert len(content) - size <= 8
        assert sum(batch.events for batch in found) == sum(SIZES)


@pytest.mark.parametrize("size", [*range(0, 64), *range(64, 1400, 61)])
def test_cut_in_the_head(whole, size):
    content = whole.read_bytes()
    path = whole.with_name("head.arrows")
    path.write_bytes(content[:size])
    if size < head_of(content):
        with pytest.raises(DataError, match=r"head\.arrows"):
            RecordingReader(path)
    else:
        found, damage, _ = read(path)
        assert_prefix(found)
        assert "head.arrows" in damage


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1,
                max_size=4))  # fmt: skip
def test_damage_anywhere_never_crashes(whole, mutations):
    """A changed byte may go unseen inside compressed data, but nothing else may happen."""
    damaged = bytearray(whole.read_bytes())
    for where, byte in mutations:
        damaged[int(where * len(damaged))] = byte
    path = whole.with_name("damaged.arrows")
    path.write_bytes(damaged)
    with contextlib.suppress(DataError):
        reader = RecordingReader(path)
        with contextlib.closing(reader):
            for batch in reader.batches():
                batch.check(reader.schema, "survivor")


@given(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=40))
def test_rubbish_after_a_cut_is_not_read_as_events(whole, where, rubbish):
    content = whole.read_bytes()
    path = whole.with_name("rubbish.arrows")
    path.write_bytes(content[: int(where * len(content))] + rubbish)
    try:
        found, damage, eor = read(path)
    except DataError:
        return
    if eor is None:
        assert damage is not None
    whole_ones = [batch for batch in found if batch.seq < len(SIZES)]
    assert len(whole_ones) <= len(SIZES)


@given(st.lists(batches(SCHEMA, max_events=30), max_size=4), st.integers(0, 2**40))
def test_any_batches_round_trip(tmp_path_factory, drawn, first):
    path = tmp_path_factory.getbasetemp() / "any.arrows"
    written = [EventBatch(b.columns, b.events, first + i) for i, (_, b) in enumerate(drawn)]
    with RecordingWriter(path, SCHEMA) as writer:
        for batch in written:
            writer.write(batch)
    found, damage, eor = read(path)
    kept = [batch for batch in written if batch.events]
    assert damage is None
    assert eor["events"] == sum(batch.events for batch in written)
    assert [batch.seq for batch in found] == [batch.seq for batch in kept]
    for got, wanted in zip(found, kept, strict=True):
        for name in SCHEMA.names:
            assert got[name].tobytes() == wanted[name].tobytes()


def test_arrays_outlive_the_reader(whole):
    reader = RecordingReader(whole)
    first = next(iter(reader.batches()))
    reader.close()
    np.testing.assert_array_equal(first["charge"], batch_of(5, 0)["charge"])


def test_a_crash_leaves_what_was_written(tmp_path):
    path = tmp_path / "crash.arrows"

    def crash():
        with RecordingWriter(path, SCHEMA) as writer:
            writer.write(batch_of(5, 0))
            writer.write(batch_of(7, 1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    found, damage, eor = read(path)
    assert [batch.events for batch in found] == [5, 7]
    assert eor is None
    assert "end-of-run" in damage


def test_recording_without_events(tmp_path):
    path = tmp_path / "none.arrows"
    RecordingWriter(path, SCHEMA).close({"run": 3})
    found, damage, eor = read(path)
    assert found == []
    assert damage is None
    assert eor == {"events": 0, "run": 3}


def test_foreign_stream_of_numbers(tmp_path):
    """What another program wrote has no begin- and end-of-run records, and is not damaged."""
    path = tmp_path / "foreign.arrows"
    table = pa.table({"a": pa.array([1, 2, 3], pa.int16()), "b": pa.array([0.5, 1, 2])})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    found, damage, eor = read(path)
    assert damage is eor is None
    assert found[0]["a"].tolist() == [1, 2, 3]
    assert found[0]["b"].dtype == np.float64


@pytest.mark.parametrize(
    ("key", "text"),
    [(b"sluice.bor", b"{not json"), (b"sluice.bor", b"\xff"), (b"sluice.bor", b"[1]")],
)
def test_damaged_begin_of_run_record_is_refused(tmp_path, key, text):
    path = tmp_path / "bor.arrows"
    schema = pa.schema([pa.field("event_id", pa.uint64())], metadata={key: text})
    with pa.OSFile(str(path), "wb") as file:
        pa.ipc.new_stream(file, schema).close()
    with pytest.raises(DataError, match=r"bor\.arrows"):
        RecordingReader(path)


@pytest.mark.parametrize(
    ("metadata", "events"),
    [({b"sluice.seq": b"x"}, 2), ({b"sluice.eor": b"{"}, 0), ({b"sluice.eor": b"\xff\xfe"}, 0)],
)
def test_damaged_batch_metadata_is_damage(tmp_path, metadata, events):
    path = tmp_path / "seq.arrows"
    schema = pa.schema([pa.field("event_id", pa.uint64())], metadata={b"sluice.bor": b"{}"})
    rows = pa.RecordBatch.from_arrays([pa.array([1, 2], pa.uint64())], schema=schema)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        stream.write_batch(rows, custom_metadata=metadata)
    found, damage, _ = read(path)
    assert sum(batch.events for batch in found) == events
    assert "seq.arrows" in damage
