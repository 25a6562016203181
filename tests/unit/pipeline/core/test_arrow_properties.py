"""Any batch of any schema comes back bit for bit: through Arrow, the wire, and plain pyarrow."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core.arrow import from_arrow, from_arrow_schema, to_arrow, to_arrow_schema
from sluice.pipeline.core.batch import EventBatch, concatenate
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import Column, Schema
from sluice.pipeline.testing import DTYPES, batches, schemas, split
from sluice.pipeline.transport.codec import Codec, pack_schema, record_dtype, unpack_schema


def bits(array):
    if isinstance(array, Ragged):
        return array.counts.tobytes(), array.items.tobytes()
    return np.ascontiguousarray(array).tobytes()


def assert_same(one, other, schema):
    assert one.events == other.events
    for column in schema:
        a, b = one[column.name], other[column.name]
        assert a.dtype == b.dtype == np.dtype(column.dtype)
        assert a.shape == b.shape == (one.events, *column.shape)
        assert bits(a) == bits(b), column


@given(schemas())
def test_schema_round_trip(schema):
    assert from_arrow_schema(to_arrow_schema(schema), "here") == schema
    assert unpack_schema(memoryview(pack_schema(schema))) == schema


@given(batches())
def test_record_batch_round_trip(drawn):
    schema, batch = drawn
    arrow_schema = to_arrow_schema(schema)
    record_batch = to_arrow(batch, schema, arrow_schema)
    record_batch.validate(full=True)
    assert record_batch.num_rows == batch.events
    back = from_arrow(record_batch, schema, batch.seq)
    assert_same(batch, back, schema)
    assert back.seq == batch.seq
    back.check(schema, "back")


@given(batches(), st.integers(0, 7))
def test_wire_round_trip_at_any_alignment(drawn, shift):
    schema, batch = drawn
    codec = Codec(schema)
    packed = bytes(codec.pack(batch))
    memory = bytearray(shift) + packed  # a socket may hand out memory at any address
    back = codec.unpack(memoryview(memory)[shift:], batch.events, batch.seq)
    assert_same(batch, back, schema)
    for column in schema:
        array = back[column.name]
        assert (array.values if column.ragged else array).flags.aligned


@given(batches())
def test_plain_pyarrow_reads_the_same_values(drawn):
    schema, batch = drawn
    arrow_schema = to_arrow_schema(schema)
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, arrow_schema) as writer:
        writer.write_batch(to_arrow(batch, schema, arrow_schema))
    table = pa.ipc.open_stream(stream.getvalue()).read_all()
    for column in schema:
        chunk = table[column.name].combine_chunks()
        if column.ragged:
            assert chunk.value_lengths().to_pylist() == batch[column.name].counts.tolist()
            chunk = chunk.flatten()
        values = chunk.flatten() if column.item_shape else chunk
        got = values.to_numpy(zero_copy_only=False)
        ours = batch[column.name].items if column.ragged else batch[column.name]
        assert bits(got.reshape(ours.shape)) == bits(ours)


@given(batches(), st.data())
def test_slices_and_reads_of_others_memory(drawn, data):
    """Views into larger arrays, read-only or not, with or without gaps."""
    schema, batch = drawn
    start = data.draw(st.integers(0, batch.events))
    stop = data.draw(st.integers(start, batch.events))
    part = batch.slice(start, stop)
    assert part.events == stop - start
    codec = Codec(schema)
    back = codec.unpack(memoryview(codec.pack(part)), part.events, 0)
    assert_same(part, back, schema)
    gaps = EventBatch({n: a[::2] for n, a in batch.columns.items()}, len(range(0, batch.events, 2)))
    assert_same(gaps, codec.unpack(memoryview(codec.pack(gaps)), gaps.events, 0), schema)


@given(batches(), st.integers(1, 50))
def test_split_and_concatenate_are_inverse(drawn, max_events):
    schema, batch = drawn
    parts = list(split(batch, max_events))
    assert all(0 < part.events <= max_events for part in parts)
    assert sum(part.events for part in parts) == batch.events
    if parts:
        assert_same(batch, concatenate(parts), schema)


@given(batches(), st.data())
def test_take_copies_the_rows_asked_for(drawn, data):
    schema, batch = drawn
    rows = (
        data.draw(st.lists(st.integers(0, batch.events - 1), max_size=20)) if batch.events else []
    )
    taken = batch.take(np.array(rows, np.intp))
    assert taken.events == len(rows)
    for column in schema:
        ours, theirs = taken[column.name], batch[column.name]
        if column.ragged:
            assert [bits(items) for items in ours] == [bits(theirs[row]) for row in rows]
            ours, theirs = ours.values, theirs.values
        else:
            assert bits(ours) == bits(theirs[rows])
        assert not np.shares_memory(ours, theirs)


@given(schemas(ragged=False))
def test_records_of_raw_messages_have_no_padding(schema):
    dtype = record_dtype(schema)
    assert dtype.itemsize == sum(column.item_bytes for column in schema)
    assert dtype.names == schema.names
    for name in dtype.names:
        assert dtype[name].base.newbyteorder("<") == dtype[name].base


@given(batches(max_events=5), st.data())
def test_check_names_place_column_expected_and_got(drawn, data):
    schema, batch = drawn
    column = data.draw(st.sampled_from(list(schema)))
    kind = data.draw(st.sampled_from(["missing", "dtype", "shape", "length"]))
    columns = dict(batch.columns)
    columns.pop(column.name)
    got = "no such column"
    if kind == "dtype":
        other = data.draw(st.sampled_from([d for d in DTYPES if d != column.dtype]))
        columns[column.name] = Column("", other, column.shape).zeros(batch.events)
        got = Column("", other, column.shape).spec
    elif kind == "shape":
        columns[column.name] = Column("", column.dtype, (*column.shape, 2)).zeros(batch.events)
        got = Column("", column.dtype, (*column.shape, 2)).spec
    elif kind == "length":
        columns[column.name] = column.zeros(batch.events + 1)
        got = f"got {batch.events + 1}"
    batch.check(schema, "before")
    with pytest.raises(DataError) as caught:
        EventBatch(columns, batch.events).check(schema, "stage 'x'")
    message = caught.value.message
    assert "stage 'x'" in message
    assert repr(column.name) in message
    assert got in message
    assert (column.spec if kind != "length" else f"expected {batch.events} events") in message


@pytest.mark.parametrize("dtype", ["bool", "S4", "U4", "object", "datetime64[ns]", "complex64"])
def test_columns_of_other_kinds_are_refused_at_once(dtype):
    with pytest.raises(DataError, match=r"column 'x'.*numbers"):
        to_arrow_schema(Schema((Column("x", dtype),)))


@pytest.mark.parametrize(
    "field",
    [
        pa.field("x", pa.string()),
        pa.field("x", pa.list_(pa.list_(pa.float32()))),
        pa.field("x", pa.list_(pa.string())),
        pa.field("x", pa.list_(pa.list_(pa.list_(pa.float32(), 2), 2))),
        pa.field("x", pa.list_view(pa.float32())),
        pa.field("x", pa.bool_()),
        pa.field("x", pa.list_(pa.string(), 3)),
        pa.field("x", pa.list_(pa.list_(pa.float32(), 2), 3)),
        pa.field("x", pa.timestamp("ns")),
        pa.field("x", pa.decimal128(5)),
        pa.field("x", pa.struct([pa.field("y", pa.int8())])),
        pa.field("x", pa.dictionary(pa.int8(), pa.string())),
        pa.field("x", pa.null()),
    ],
)
def test_fields_that_are_no_columns_are_refused(field):
    with pytest.raises(DataError, match="column 'x'"):
        from_arrow_schema(pa.schema([field]), "file.arrows")


@pytest.mark.parametrize("shape", [b"x", b"-2,-2", b"3", b"", b",", b"2,2,", b"4,1", b"\xff"])
def test_strange_shapes_in_metadata_never_contradict_the_data(shape):
    field = pa.field("x", pa.list_(pa.float32(), 4), metadata={b"shape": shape, b"unit": b"\xff"})
    (column,) = from_arrow_schema(pa.schema([field]), "file.arrows")
    assert np.prod(column.shape) == 4
    assert all(n > 0 for n in column.shape)


def test_nulls_and_twice_the_same_column_are_refused():
    schema = Schema((Column("x", "int64"),))
    codec = Codec(schema)
    holes = pa.RecordBatch.from_arrays([pa.array([1, None, 3], pa.int64())], names=["x"])
    with pytest.raises(DataError, match="null"):
        codec.unpack(memoryview(holes.serialize()), 3, 0)
    twice = pa.schema([pa.field("x", pa.int64()), pa.field("x", pa.int64())])
    with pytest.raises(DataError, match="'x'"):
        from_arrow_schema(twice, "file.arrows")
