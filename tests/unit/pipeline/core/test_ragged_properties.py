"""Ragged columns are what nested Python lists say they are, wherever they travel."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.kernels.ragged import gather, pad
from sluice.pipeline.core.arrow import from_arrow, from_arrow_schema
from sluice.pipeline.core.batch import EventBatch, concatenate
from sluice.pipeline.core.errors import DataError, ProtocolError
from sluice.pipeline.core.ragged import Ragged, as_bytes
from sluice.pipeline.core.schema import EVENT_ID, Column, Schema
from sluice.pipeline.engine.workers.shared_slots import SharedSlots
from sluice.pipeline.recording import RecordingReader, RecordingWriter
from sluice.pipeline.transport.codec import Codec

ITEM = 3
TRACKS = Column("tracks", "float32", (None, ITEM), "GeV")
CHARGES = Column("charges", "int16", (None,), max_items=9)
SCHEMA = Schema((EVENT_ID, TRACKS, CHARGES))
LISTS = st.lists(st.lists(st.tuples(*[st.integers(-99, 99)] * ITEM), max_size=6), max_size=12)


def batch_of(lists, seq=0):
    """Return a batch whose tracks are `lists`; charges are their first numbers."""
    firsts = [[track[0] for track in tracks] for tracks in lists]
    columns = {
        "event_id": np.arange(len(lists), dtype=np.uint64),
        "tracks": Ragged.of(lists, "float32", (ITEM,)),
        "charges": Ragged.of(firsts, "int16"),
    }
    return EventBatch(columns, len(lists), seq)


def lists_of(batch):
    """Return the tracks of a batch as nested tuples of int, once its charges agree."""
    batch.check(SCHEMA, "test")
    tracks = [[tuple(map(int, t)) for t in tracks] for tracks in batch["tracks"].tolist()]
    assert batch["charges"].tolist() == [[track[0] for track in event] for event in tracks]
    return tracks


@given(LISTS, st.data())
def test_slice_take_and_index_are_those_of_lists(lists, data):
    batch, n = batch_of(lists), len(lists)
    assert lists_of(batch) == lists
    start, stop = data.draw(st.integers(0, n)), data.draw(st.integers(0, n + 2))
    part = batch.slice(start, stop)
    assert lists_of(part) == lists[start:stop]
    step = data.draw(st.sampled_from([2, 3, -1]))
    assert batch["charges"][::step].tolist() == batch["charges"].tolist()[::step]
    rows = data.draw(st.lists(st.integers(0, part.events - 1), max_size=9)) if part.events else []
    assert lists_of(part.take(np.array(rows, np.intp))) == [lists[start:stop][row] for row in rows]
    for row in (*range(-n, n),):
        assert batch["charges"][row].tolist() == [track[0] for track in lists[row]]
    for beyond in (n, -n - 1):
        with pytest.raises(IndexError):
            batch["tracks"][beyond]


@given(st.lists(LISTS, min_size=1, max_size=4), st.data())
def test_concatenate_joins_slices_of_others(several, data):
    parts, expected = [], []
    for lists in several:
        start = data.draw(st.integers(0, len(lists)))
        parts.append(batch_of(lists).slice(start, len(lists)))
        expected += lists[start:]
    assert lists_of(concatenate(parts)) == expected


@given(LISTS, st.data())
def test_wire_recording_and_slots_give_the_lists_back(tmp_path_factory, lists, data):
    start = data.draw(st.integers(0, len(lists)))
    batch, expected = batch_of(lists, 7).slice(start, len(lists)), lists[start:]
    codec = Codec(SCHEMA)
    packed = codec.pack(batch)
    assert lists_of(codec.unpack(memoryview(packed), batch.events, 7)) == expected
    folder = tmp_path_factory.mktemp("ragged")
    with RecordingWriter(folder / "r.arrows", SCHEMA) as writer:
        writer.write(batch)
        writer.write(batch)
    reader = RecordingReader(folder / "r.arrows")
    assert reader.schema == SCHEMA
    got = list(reader.batches())
    reader.close()
    assert reader.corruption is None
    assert [lists_of(part) for part in got] == ([expected] * 2 if expected else [])
    max_events = max(1, batch.events)
    slots = SharedSlots(folder / "slots", (SCHEMA, SCHEMA), max_events, max_events, 2, create=True)
    slot = slots.take(batch)
    assert lists_of(slots.batch(slot, 0, batch.events, 7)) == expected
    assert slots.write(slot, 1, batch)
    assert lists_of(slots.batch(slot, 1, batch.events, 7)) == expected


@given(LISTS, st.integers(1, 5), st.data())
def test_padding_cuts_and_fills(lists, width, data):
    ragged = batch_of(lists).ragged("tracks")
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=9)) if lists else []
    filler = np.full(ITEM, -7, np.float32)
    out = np.empty((len(rows), width, ITEM), np.float32)
    lengths = np.empty(len(rows), np.int64)
    bytes_ = out.view(np.uint8).reshape(len(rows), width * ITEM * 4)
    pad(
        as_bytes(ragged.values),
        ragged.offsets,
        np.array(rows, np.int64),
        as_bytes(filler),
        bytes_,
        lengths,
    )
    for row, got, length in zip(rows, out.tolist(), lengths, strict=True):
        real = [list(map(float, track)) for track in lists[row][:width]]
        assert got == real + [[-7.0] * ITEM] * (width - len(real))
        assert length == len(real)


def test_a_batch_that_does_not_fit_into_a_slot_gets_none(tmp_path):
    """It travels as payload then, and the slot stays free."""
    slots = SharedSlots(tmp_path / "slots", (SCHEMA, SCHEMA), 2, 2, 1, create=True)
    capacity = (1 << 20) // (4 * ITEM)
    full = batch_of([[(1, 2, 3)] * (capacity // 2)] * 2)
    huge = EventBatch({**full.columns, "tracks": Ragged.of([[(1, 2, 3)] * (capacity + 1), []],
                                                           "float32", (ITEM,))}, 2)  # fmt: skip
    few = batch_of([[(1, 2, 3)] * 5, []])
    assert slots.take(huge) is None
    assert slots.take(full) is None  # `charges` holds 9 an event
    slot = slots.take(few)
    assert slot is not None
    assert not slots.write(slot, 1, huge)
    assert slots.write(slot, 1, few)


BROKEN = {
    "falls": ([0, 5, 2, 6], "event 1: expected a list within 6 items, got one from item 5 to 2"),
    "beyond": ([0, 2, 4, 7], "event 2: expected a list within 6 items, got one from item 4 to 7"),
    "negative": ([-1, 2, 4, 6], "event 0: expected a list within 6 items, got one from item -1"),
    "negative inside": ([0, 2, -4, 6], "event 1"),
    "huge": ([0, 2**31 - 1, 4, 6], "event 0"),
}


def message_with(offsets):
    """Return an Arrow record batch of three lists of charges, and put other offsets into it."""
    codec = Codec(Schema((CHARGES,)))
    lists = Ragged.of([[1, 2], [3, 4], [5, 6]], "int16")
    packed = bytes(codec.pack(EventBatch({"charges": lists}, 3)))
    before = np.array([0, 2, 4, 6], np.int32).tobytes()
    assert packed.count(before) == 1
    return codec, packed.replace(before, np.array(offsets, np.int32).tobytes())


@pytest.mark.parametrize("how", BROKEN)
def test_broken_offsets_are_refused_with_place_expected_and_got(how, tmp_path):
    offsets, message = BROKEN[how]
    codec, packed = message_with(offsets)
    with pytest.raises(ProtocolError, match=f"batch 5: column 'charges': {message}"):
        codec.unpack(memoryview(packed), 3, 5)
    path = tmp_path / "broken.arrows"
    sound = codec.pack(EventBatch({"charges": Ragged.of([[1]], "int16")}, 1)).to_pybytes()
    path.write_bytes(codec.arrow_schema.serialize().to_pybytes() + packed + sound)
    reader = RecordingReader(path)
    assert [batch["charges"].tolist() for batch in reader.batches()] == [[[1]]]
    reader.close()
    assert f"batch 0 (of 3 events): column 'charges': {message}" in reader.corruption


@pytest.mark.parametrize("there", [0, 8, 12, 15])
def test_offsets_that_are_not_all_there_are_refused(there):
    codec, packed = message_with([0, 2, 4, 6])
    # Arrow's metadata say of each buffer where it begins and its bytes: of validity, of offsets.
    buffers = struct.Struct("<qqqq")
    assert packed.count(buffers.pack(0, 0, 0, 16)) == 1
    damaged = packed.replace(buffers.pack(0, 0, 0, 16), buffers.pack(0, 0, 0, there))
    expected = f"column 'charges': expected 16 bytes of offsets for 3 lists, got {there}"
    with pytest.raises(ProtocolError, match=expected):
        codec.unpack(memoryview(damaged), 3, 0)


def test_nulls_in_lists_are_refused():
    codec = Codec(Schema((CHARGES,)))
    for entries in ([[1], None, [2]], [[1], [None], [2]]):
        holes = pa.RecordBatch.from_arrays([pa.array(entries, pa.list_(pa.int16()))], ["charges"])
        with pytest.raises(DataError, match="'charges': expected no nulls"):
            codec.unpack(memoryview(holes.serialize()), 3, 0)


def test_lists_of_other_writers_are_read_with_either_offsets():
    tracks = [[[1.0, 2.0]], [], [[3.0, 4.0], [5.0, 6.0]]]
    inner = pa.list_(pa.float32(), 2)
    for kind in (pa.list_(inner), pa.large_list(inner)):
        whole = pa.RecordBatch.from_arrays([pa.array([[], *tracks, []], kind)], ["t"])
        schema = from_arrow_schema(whole.schema, "here")
        assert schema["t"].spec == "float32[*,2]"
        part = from_arrow(whole.slice(1, 3), schema)
        assert part["t"].tolist() == tracks


def test_values_are_views_of_the_message():
    codec = Codec(SCHEMA)
    packed = np.frombuffer(codec.pack(batch_of([[(1, 2, 3)] * 50] * 4)), np.uint8)
    got = codec.unpack(packed.data, 4, 0)
    assert np.shares_memory(got["tracks"].values, packed)


def test_kernels_refuse_what_does_not_fit():
    values, offsets = np.zeros(12, np.uint8), np.array([0, 1, 3], np.int64)
    rows, out = np.array([1], np.int64), np.zeros((1, 8), np.uint8)
    lengths, filler = np.zeros(1, np.int64), np.zeros(4, np.uint8)
    for bad in (np.array([2], np.int64), np.array([-1], np.int64)):
        with pytest.raises(ValueError, match="rows"):
            pad(values, offsets, bad, filler, out, lengths)
        with pytest.raises(ValueError, match="rows"):
            gather(values, offsets, 4, bad, np.array([0, 2]), out[0])
    with pytest.raises(ValueError, match="offsets"):
        pad(values, offsets + 2, rows, filler, out, lengths)
    with pytest.raises(ValueError, match="offsets"):
        gather(values, offsets + 2, 4, rows, np.array([0, 2]), out[0])
    with pytest.raises(ValueError, match="expected"):
        pad(values, offsets, rows, filler, out[:, :6].copy(), lengths)
