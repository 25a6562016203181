"""Messages come back as sent; damaged ones are refused by ProtocolError and by nothing else."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluice.pipeline.core.batch import EventBatch, Flag, Outcome
from sluice.pipeline.core.errors import DataError, ProtocolError
from sluice.pipeline.core.schema import EVENT_ID, Column, Schema
from sluice.pipeline.testing import batches
from sluice.pipeline.transport.batch_summary import BatchSummary, pack_summary, unpack_summary
from sluice.pipeline.transport.codec import Codec, pack_schema, unpack_schema
from sluice.pipeline.transport.protocol import (
    EVENTS_LENGTH_WORD,
    HEADER_BYTES,
    MAGIC,
    MAX_BYTES,
    MAX_EVENTS,
    MAX_FRAMES,
    VERSION,
    Header,
    Kind,
    decode,
    encode,
)
from sluice.pipeline.transport.segment_state import (
    SegmentState,
    pack_segment_state,
    unpack_segment_state,
)

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
I64 = st.integers(-(2**63), 2**63 - 1)
HEADERS = st.builds(
    Header,
    kind=st.sampled_from(Kind).map(int),
    run=U32,
    source=U32,
    seq=U64,
    arg1=U64,
    events=st.integers(0, MAX_EVENTS),
    token=U64,
    t_sent=I64,
    arg2=U64,
)
PAYLOADS = st.lists(st.binary(max_size=64), max_size=MAX_FRAMES - 1)
WAFERS = Schema((EVENT_ID, Column("words", "uint32", (12,)), Column("q", "float32")))


def frames_of(header=None, *payload):
    return [bytes(frame) for frame in encode(header or Header(Kind.DATA), *payload)]


@given(HEADERS, PAYLOADS)
def test_header_and_payload_round_trip(header, payload):
    got, frames = decode(encode(header, *payload))
    assert got == header._replace(length=sum(map(len, payload)))
    assert [bytes(frame) for frame in frames] == payload


@given(st.lists(st.binary(max_size=2 * HEADER_BYTES), max_size=4))
@example([])
@example([b""])
def test_garbage_is_refused_with_protocol_error_only(frames):
    with pytest.raises(ProtocolError):
        decode(frames)


@given(st.integers(0, HEADER_BYTES - 1), st.integers(0, 255), PAYLOADS)
def test_a_changed_byte_is_refused_or_yields_a_sane_header(position, byte, payload):
    packed, *rest = frames_of(Header(Kind.RAW, events=3, arg1=9), *payload)
    damaged = bytearray(packed)
    damaged[position] = byte
    try:
        header, frames = decode([bytes(damaged), *rest])
    except ProtocolError:
        return
    assert header.kind in set(Kind)
    assert 0 <= header.events <= MAX_EVENTS
    assert header.length == sum(frame.nbytes for frame in frames)


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1, HEADER_BYTES + 1, 10_000])
def test_wrong_header_length_names_both(size):
    with pytest.raises(
        ProtocolError, match=f"expected a header of {HEADER_BYTES} bytes, got {size}"
    ):
        decode([bytes(size)])


def damage(offset, form, value):
    frame = bytearray(frames_of()[0])
    struct.pack_into("<" + form, frame, offset, value)
    return [bytes(frame)]


def test_each_kind_of_damage_says_what_was_expected():
    assert frames_of()[0][:6] == MAGIC + bytes([VERSION, Kind.DATA])
    with pytest.raises(ProtocolError, match="magic"):
        decode(damage(0, "4s", b"HTTP"))
    with pytest.raises(ProtocolError, match=f"version {VERSION}, got 9"):
        decode(damage(4, "B", 9))
    for kind in (0, max(Kind) + 1, 255):
        with pytest.raises(ProtocolError, match=f"kind .* got {kind}"):
            decode(damage(5, "B", kind))


def test_lengths_and_counts_beyond_the_limits():
    header, payload = frames_of(Header(Kind.DATA), b"123")
    with pytest.raises(ProtocolError, match="expected 3 payload bytes"):
        decode([header, payload + b"4"])
    with pytest.raises(ProtocolError, match="expected 3 payload bytes"):
        decode([header])
    with pytest.raises(ProtocolError, match=f"at most {MAX_EVENTS} events"):
        decode([with_counts(header, MAX_EVENTS + 1, 0)])
    huge = np.zeros(MAX_BYTES + 1, np.uint8)
    with pytest.raises(ProtocolError, match=f"at most {MAX_BYTES}"):
        decode([with_counts(header, 0, MAX_BYTES + 1), huge])


def with_counts(header, events, length):
    """Return a header with other counts, as only another program sends them."""
    words = np.frombuffer(header, np.uint64).copy()
    words[EVENTS_LENGTH_WORD] = events | length << 32
    return words.tobytes()


def test_a_number_beyond_its_field_is_refused_when_sent():
    for header in (Header(Kind.BOR, run=2**32), Header(Kind.BOR, seq=-1), Header(300)):
        with pytest.raises((struct.error, ValueError, DataError)):
            encode(header)


@pytest.mark.parametrize("time_ns", [2**63 - 1, -(2**63), 2**64 - 1])
def test_times_with_which_nobody_can_reckon_are_refused(time_ns):
    summary = BatchSummary(bytes(64), bytes(512), time_ns)
    with pytest.raises(ProtocolError, match="summary"):
        unpack_summary(pack_summary(summary))
    with pytest.raises(ProtocolError, match="segment state"):
        unpack_segment_state(pack_segment_state(SegmentState((), time_ns)))


MUTATIONS = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 255)), min_size=1, max_size=8)


@given(batches(WAFERS, max_events=8), MUTATIONS, st.integers(0, 10**9))
def test_mutated_record_batches_never_crash(drawn, mutations, cut):
    schema, batch = drawn
    codec = Codec(schema)
    damaged = bytearray(codec.pack(batch))
    for position, byte in mutations:
        damaged[position % len(damaged)] = byte
    if cut % 4 == 0:
        del damaged[cut % len(damaged) :]
    try:
        got = codec.unpack(memoryview(bytes(damaged)), batch.events, 0)
    except ProtocolError:
        return
    got.check(schema, "survivor")
    for column in schema:
        got[column.name].tobytes()  # the memory can be read


@given(st.binary(max_size=300), st.integers(0, 5))
def test_garbage_record_batches_never_crash(garbage, events):
    with pytest.raises(ProtocolError):
        Codec(WAFERS).unpack(memoryview(garbage), events, 0)


@given(batches(WAFERS, max_events=8), st.integers(0, 20))
def test_wrong_event_count_is_refused(drawn, events):
    schema, batch = drawn
    codec = Codec(schema)
    if events != batch.events:
        with pytest.raises(ProtocolError, match=f"{events} events"):
            codec.unpack(memoryview(codec.pack(batch)), events, 0)


@given(batches(max_events=5), batches(WAFERS, max_events=5))
def test_another_schemas_record_batch_is_refused_or_harmless(drawn, wanted):
    _, batch = drawn
    other = Codec(drawn[0])
    codec = Codec(wanted[0])
    try:
        got = codec.unpack(memoryview(other.pack(batch)), batch.events, 0)
    except ProtocolError:
        return
    got.check(codec.schema, "survivor")


@given(MUTATIONS)
def test_mutated_schemas_never_crash(mutations):
    damaged = bytearray(pack_schema(WAFERS))
    for position, byte in mutations:
        damaged[position % len(damaged)] = byte
    try:
        schema = unpack_schema(memoryview(bytes(damaged)))
    except ProtocolError:
        return
    for column in schema:
        assert column.item_bytes >= 0


@pytest.mark.parametrize(
    "schema", [pa.schema([("a", pa.string())]), pa.schema([("a", pa.large_list(pa.int8()))])]
)
def test_a_schema_without_numbers_breaks_the_protocol(schema):
    with pytest.raises(ProtocolError, match="'a'"):
        unpack_schema(memoryview(schema.serialize()))


@given(
    st.binary(min_size=64, max_size=64),
    st.binary(min_size=512, max_size=512),
    st.integers(-(2**62), 2**62),
    st.lists(
        st.builds(
            Flag,
            stage=st.text(max_size=5),
            reason=st.text(max_size=5),
            outcome=st.sampled_from([Outcome.INVALID, Outcome.FAILED]).map(int),
            rows=st.lists(st.integers(0, 10**6), max_size=4),
        ),
        max_size=3,
    ),
)
def test_summary_round_trip(counts, paths, decided, flags):
    summary = BatchSummary(counts, paths, decided, flags)
    assert unpack_summary(memoryview(pack_summary(summary))) == summary


@given(st.binary(max_size=60))
def test_garbage_summaries_are_refused(garbage):
    try:
        summary = unpack_summary(memoryview(garbage))
    except ProtocolError:
        return
    assert unpack_summary(pack_summary(summary)) == summary
    assert (len(summary.counts), len(summary.paths)) == (8 * len(Outcome), 8 * 64)


def test_an_empty_batch_round_trip():
    codec = Codec(WAFERS)
    empty = EventBatch({c.name: c.empty(0) for c in WAFERS}, 0, 5)
    back = codec.unpack(memoryview(codec.pack(empty)), 0, 5)
    back.check(WAFERS, "back")
    assert back.events == 0
