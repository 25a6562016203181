"""The sink takes a result only with the token of its batch, and only what agrees with the batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core.batch import EventBatch, Flag, Outcome
from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.core.schema import EVENT_ID, Schema
from sluice.pipeline.engine.workers.batch_token import Assignment, TokenKey
from sluice.pipeline.engine.workers.result_reader import ResultReader
from sluice.pipeline.journal.batch_record import pack_batch_record
from sluice.pipeline.transport.batch_summary import BatchSummary, pack_summary
from sluice.pipeline.transport.codec import Codec
from sluice.pipeline.transport.protocol import Kind, Session
from sluice.pipeline.transport.run_messages import Result

RUN, SESSION, SEGMENT = 7, Session(7, 0xABCD), 1
CODEC = Codec(Schema((EVENT_ID,)))
KEY = TokenKey(bytes(range(16)))
KEPT = EventBatch({"event_id": np.array([3, 4], np.uint64)}, 2, 5)
READER = ResultReader(RUN, KEY, SEGMENT, CODEC, None)


def token(seq=5, events=4, session=SESSION.number, epoch=2, segment=SEGMENT, rung=1):
    return KEY.token(Assignment(seq, events, session, epoch, segment, rung))


def result(**changed):
    fields = {"seq": 5, "events": 2, "slot": None, "rung": 1, "epoch": 2, "processed_events": 4}
    return Result(**fields | {"token": token(), "t_sent": 9} | changed)


def summary(accepted=2, rejected=2, rows=(), seq=5, events=4, epoch=2, rung=1):
    counts = np.zeros(len(Outcome), np.int64)
    counts[Outcome.ACCEPTED], counts[Outcome.REJECTED] = accepted, rejected
    record = pack_batch_record(seq, np.arange(events, dtype=np.uint64), [0] * 8, epoch, rung)
    flags = [Flag("s", "r", int(Outcome.REJECTED), list(rows))] if rows else []
    return memoryview(pack_summary(BatchSummary(counts.tobytes(), bytes(512), 1, flags, record)))


def frames(found=None, kept=KEPT):
    return [summary() if found is None else found, memoryview(CODEC.pack(kept))]


def test_a_result_of_this_run_is_read():
    verified = READER.verify(result().to_header().of(SESSION))
    assert verified == result()
    read = READER.unpack(verified, frames(), remote=True)
    assert (read.seq, read.events, bytes(read.summary)) == (5, 4, bytes(summary()))
    np.testing.assert_array_equal(read.kept["event_id"], [3, 4])


@pytest.mark.parametrize(
    "changed",
    [{"seq": 6}, {"processed_events": 3}, {"epoch": 3}, {"rung": 0}, {"token": token() ^ 1},
     {"token": 0}, {"token": token(segment=0)}, {"token": token(session=1)}],
)  # fmt: skip
def test_what_the_token_is_not_for_is_refused(changed):
    with pytest.raises(ProtocolError, match="expected the token of a batch of run 7"):
        READER.verify(result(**changed).to_header().of(SESSION))


@pytest.mark.parametrize("session", [Session(8, SESSION.number), Session(7, 1), Session()])
def test_another_session_or_run_is_refused(session):
    with pytest.raises(ProtocolError, match="expected the token of a batch of run 7"):
        READER.verify(result().to_header().of(session))


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.RESULT])
def test_another_kind_is_refused(kind):
    header = result().to_header()._replace(kind=int(kind)).of(SESSION)
    with pytest.raises(ProtocolError, match=f"expected RESULT, got {kind.name}"):
        READER.verify(header)


MADE_UP = st.builds(
    Result, seq=st.integers(0, 2**64 - 1), events=st.integers(0, 2**20), rung=st.integers(0, 255),
    epoch=st.integers(0, 2**32 - 1), processed_events=st.integers(0, 2**20),
    token=st.integers(0, 2**64 - 1),
)  # fmt: skip


@given(MADE_UP, st.integers(0, 2**32 - 1))
def test_nothing_made_up_is_taken(made_up, number):
    with pytest.raises(ProtocolError):
        READER.verify(made_up.to_header().of(Session(RUN, number)))


@pytest.mark.parametrize(
    ("changed", "payload", "why"),
    [({}, [], "2 or 3 frames"), ({}, [summary()], "its 2 kept events"),
     ({"events": 5}, frames(), "counts of its 4 events"), ({"slot": 3}, frames(), "kept events"),
     ({}, frames(summary(accepted=3)), "counts of its 4 events"),
     ({}, frames(summary(accepted=5, rejected=-1)), "counts of its 4 events"),
     ({}, frames(summary(rows=[4])), "flags of its 4 events"),
     ({}, frames(summary(rows=[-1])), "flags of its 4 events"),
     ({}, frames(summary(seq=6)), "batch record"), ({}, frames(summary(events=5)), "batch record"),
     ({}, frames(summary(epoch=3)), "batch record"), ({}, frames(summary(rung=0)), "batch record"),
     ({}, [memoryview(b"x"), *frames()[1:]], "summary"),
     ({}, [summary(), memoryview(b"x")], "batch 5")],
)  # fmt: skip
def test_a_payload_that_is_not_that_of_the_batch_is_refused(changed, payload, why):
    with pytest.raises(ProtocolError, match=why):
        READER.unpack(result(**changed), payload, remote=True)
