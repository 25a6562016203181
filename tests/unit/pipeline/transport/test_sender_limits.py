"""A sender obeys the limits of the receiver, for every kind of message."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core.batch import Flag, Outcome
from sluice.pipeline.core.errors import ErrorRecord, ProtocolError, RunError
from sluice.pipeline.execution.isolation import MAX_REASONS, OTHER_REASONS, limit_flags
from sluice.pipeline.journal.batch_record import BATCH_RECORD_DTYPE
from sluice.pipeline.transport.batch_summary import (
    BatchSummary,
    join_summaries,
    merge_acks,
    pack_summary,
    unpack_summaries,
)
from sluice.pipeline.transport.protocol import (
    MAX_BYTES,
    MAX_EVENTS,
    MAX_SUMMARY_BYTES,
    MAX_TEXT_BYTES,
    Header,
    Kind,
    decode,
    encode,
)

BATCHES = (Kind.DATA, Kind.RAW, Kind.RESULT)
SUMMARIES = (Kind.ACK, Kind.HEARTBEAT)


def max_bytes(kind):
    return (
        MAX_BYTES if kind in BATCHES else MAX_SUMMARY_BYTES if kind in SUMMARIES else MAX_TEXT_BYTES
    )


def summary_of(flags):
    counts, paths = np.zeros(len(Outcome), np.int64), np.zeros(64, np.int64)
    return BatchSummary(
        counts.tobytes(), paths.tobytes(), 2**62, list(flags), bytes(BATCH_RECORD_DTYPE.itemsize)
    )


@pytest.mark.parametrize("kind", Kind)
def test_the_largest_message_is_sent_and_received_and_a_larger_one_is_not_sent(kind):
    payload = np.zeros(max_bytes(kind) + 1, np.uint8)
    header, frames = decode(encode(Header(kind, events=MAX_EVENTS), payload[:-1]))
    assert (header.length, header.events, len(frames)) == (max_bytes(kind), MAX_EVENTS, 1)
    with pytest.raises(
        ProtocolError, match=f"cannot send {kind.name}: expected at most {max_bytes(kind)}"
    ):
        encode(Header(kind), payload)
    with pytest.raises(
        ProtocolError, match=f"and {MAX_EVENTS} events, got 0 bytes and {MAX_EVENTS + 1}"
    ):
        encode(Header(kind, events=MAX_EVENTS + 1))


ROWS = st.lists(st.integers(0, 2**20), max_size=30)


@given(
    st.lists(st.lists(ROWS, min_size=1, max_size=5), min_size=1, max_size=5),
    st.integers(900, 5_000),
)
def test_acknowledgements_are_split_where_they_do_not_fit(groups, limit):
    acks = []
    for group in groups:
        packed = [pack_summary(summary_of([Flag("s", "r", 5, rows)])) for rows in group]
        acks.append((len(group), join_summaries(packed)))
    sent = list(merge_acks(acks, limit))
    assert all(len(payload) <= limit for _, payload in sent)
    assert all(len(unpack_summaries(payload)) == batches for batches, payload in sent)
    rows = [one.flags[0].rows for _, payload in sent for one in unpack_summaries(payload)]
    assert rows == [rows for group in groups for rows in group]
    if sum(len(payload) for _, payload in acks) <= limit:
        assert len(sent) == 1


def assert_fits(flags):
    packed = pack_summary(summary_of(flags))
    ((batches, payload),) = merge_acks([(1, join_summaries([packed]))])
    decode(encode(Header(Kind.ACK), payload))
    assert batches == 1


EVERY_ROW = list(range(MAX_EVENTS))


def test_the_summary_of_a_batch_fits_whatever_its_stages_write_into_flags():
    """Every event refused by each of five stages, each time for a reason of its own length."""
    flags = tuple(Flag(f"s{n}", "é" * 10**6, Outcome.INVALID, EVERY_ROW) for n in range(5))
    limited = limit_flags(flags, MAX_EVENTS)
    assert [(flag.stage, len(flag.rows)) for flag in limited] == [("s0", MAX_EVENTS)]
    assert len(limited[0].reason) <= 500
    assert_fits(limited)


def test_many_reasons_become_few_and_no_event_is_forgotten():
    outcomes = (Outcome.INVALID, Outcome.FAILED)
    flags = tuple(Flag("s", f"value {n}", outcomes[n % 2], [n]) for n in range(20_000))
    limited = limit_flags(flags, MAX_EVENTS)
    assert limited[:MAX_REASONS] == flags[:MAX_REASONS]
    assert limited[MAX_REASONS:] == tuple(
        Flag("s", OTHER_REASONS, outcome, list(range(MAX_REASONS + n, 20_000, 2)))
        for n, outcome in enumerate(outcomes)
    )
    assert_fits(limited)


def test_flags_within_the_limits_stay_as_they_are():
    flags = (Flag("a", "x", Outcome.INVALID, [1, 4]), Flag("b", "y", Outcome.FAILED, [0]))
    assert limit_flags(flags, 5) == flags


@pytest.mark.parametrize("error", [ValueError("\0" * 10**7), RunError("é" * 10**7, "\x01" * 10**7)])
def test_an_error_of_any_length_fits_its_message(error):
    payload = msgspec.json.encode(ErrorRecord.of(error, "compute-0"))
    decode(encode(Header(Kind.ERROR), payload))
    assert msgspec.json.decode(payload, type=ErrorRecord).error().message.startswith("compute-0: ")
