"""Small results become one record batch, large ones are not copied, ACK follows the write."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from msgspec.structs import replace

from sluice.pipeline.config.graph_file import GraphTable
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.schema import EVENT_ID, Column, Schema
from sluice.pipeline.engine import group_commit
from sluice.pipeline.engine.group_commit import GroupCommit
from sluice.pipeline.journal.commit import BatchResult, CommitRecord
from sluice.pipeline.sinks.base import MAX_GROUP_DELAY_S
from sluice.pipeline.transport.batch_summary import BatchSummary, pack_summary, unpack_summaries

SCHEMA = Schema((EVENT_ID, Column("score", "float32", (2,))))
LIMITS = GraphTable(name="x", batch_events=400, window=8)


class MemorySink:
    """A sink that keeps what it is given, or refuses it as a full disk does."""

    def __init__(self, hold_s=MAX_GROUP_DELAY_S):
        self.max_group_delay_s = hold_s
        self.writes = []
        self.full = False

    def write(self, batch, commit):
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.writes.append((batch, commit))


def result(seq, kept, events=None):
    events = kept if events is None else events
    counts, paths = np.zeros(len(Outcome), np.int64), np.zeros(64, np.int64)
    counts[Outcome.ACCEPTED], counts[Outcome.REJECTED] = kept, events - kept
    paths[0], paths[63] = kept, seq % 2
    summary = BatchSummary(counts.tobytes(), paths.tobytes(), 1_000 + seq)
    ids = np.arange(1000 * seq, 1000 * seq + kept, dtype=np.uint64)
    columns = {"event_id": ids, "score": np.full((kept, 2), seq, np.float32)} if kept else {}
    return BatchResult(seq, events, EventBatch(columns, kept, seq), pack_summary(summary))


@pytest.fixture
def sink():
    return MemorySink()


@pytest.fixture
def acks():
    return []


@pytest.fixture
def committer(sink, acks):
    def acknowledge(first, batches, payload):
        times = [summary.t_decided for summary in unpack_summaries(payload)]
        assert len(times) == batches
        acks.extend(range(first, first + batches))
        assert times == [1_000 + seq for seq in range(first, first + batches)]

    return GroupCommit(sink, SCHEMA, LIMITS, CommitRecord(), acknowledge)


def test_small_results_share_a_record_batch(committer, sink, acks):
    for seq in range(10):
        committer.add(result(seq, 3), 1.0 + seq / 1000)
    assert sink.writes == acks == []
    assert committer.due_in(1.0) == pytest.approx(0.020)
    assert committer.next == 10
    committer.flush()
    ((batch, commit),) = sink.writes
    assert batch.events == 30
    assert batch.seq == 0
    assert batch["event_id"].tolist() == [1000 * s + i for s in range(10) for i in range(3)]
    assert acks == list(range(10))
    assert (commit.first, commit.next, commit.kept) == (0, 10, [3] * 10)
    assert committer.due_in(1.0) == float("inf")


def test_a_large_result_is_written_at_once_and_not_copied(committer, sink, acks):
    large = result(0, 350)
    committer.add(large, 0.0)
    assert acks == [0]
    assert sink.writes[0][0]["score"] is large.kept["score"]


def test_a_large_result_does_not_drag_small_ones_into_a_copy(committer, sink, acks):
    large = result(2, 350)
    for one in (result(0, 5), result(1, 0, 40), large):
        committer.add(one, 0.0)
    assert [batch.events for batch, _ in sink.writes] == [5, 350]
    assert sink.writes[1][0]["score"] is large.kept["score"]
    assert acks == [0, 1, 2]


def test_results_of_which_nothing_is_kept_are_committed_too(committer, sink, acks):
    committer.add(result(0, 0, 50), 0.0)
    assert committer.due_in(0.0) == pytest.approx(0.25)
    committer.flush()
    ((batch, commit),) = sink.writes
    assert batch.events == 0
    batch.check(SCHEMA, "empty")
    assert commit.events == 50
    assert acks == [0]


def test_a_kept_event_does_not_wait_as_long_as_an_empty_result(committer):
    committer.add(result(0, 0, 1), 0.0)
    committer.add(result(1, 1), 0.1)
    assert committer.due_in(0.1) == pytest.approx(0.020)


def test_a_quarter_of_the_window_closes_a_group(committer, acks):
    committer.add(result(0, 0, 400), 0.0)
    assert acks == []
    committer.add(result(1, 0, 400), 0.0)
    assert acks == [0, 1]


def test_many_tiny_batches_close_a_group(committer, acks):
    for seq in range(16 * LIMITS.window):
        committer.add(result(seq, 0, 1), 0.0)
    assert len(acks) == 16 * LIMITS.window


def test_nothing_waits_once_flushing_is_eager(committer, acks):
    committer.add(result(0, 1), 0.0)
    committer.flush_eagerly()
    assert committer.due_in(0.0) < 0
    committer.add(result(1, 1), 0.0)
    assert acks == [0, 1]


def test_an_eager_sink_without_results_waits_for_the_next_one(committer):
    committer.flush_eagerly()
    assert committer.due_in(0.0) > 3600


def test_a_full_disk_loses_nothing_and_acknowledges_nothing(committer, sink, acks):
    sink.full = True
    committer.add(result(0, 2), 0.0)
    for seq in (1, 2):
        with pytest.raises(OSError, match="No space left"):
            committer.add(result(seq, 350), 0.0)
    assert acks == []
    assert committer.next == 3
    with pytest.raises(OSError, match="No space left"):
        committer.flush()
    sink.full = False
    committer.flush()
    assert acks == [0, 1, 2]
    assert [batch.events for batch, _ in sink.writes] == [2, 350, 350]


def test_the_ledger_adds_up_and_goes_on_from_the_last_record(sink):
    first = GroupCommit(sink, SCHEMA, LIMITS, CommitRecord(), lambda *_: None)
    for seq in range(5):
        first.add(result(seq, 2, 10), 0.0)
    first.flush()
    (_, last), *_ = sink.writes[-1:]
    assert last.events == 50
    assert last.counts[Outcome.ACCEPTED] == last.written == last.paths[0] == 10
    assert last.paths[63] == 2
    second = GroupCommit(sink, SCHEMA, LIMITS, last, lambda *_: None)
    assert second.next == 5
    second.add(result(5, 1, 10), 0.0)
    second.flush()
    after = sink.writes[-1][1]
    assert after.events == 60
    assert (after.written, after.first, after.next) == (11, 5, 6)


def test_a_sink_may_want_what_there_is_at_once():
    committer = GroupCommit(MemorySink(hold_s=0.0), SCHEMA, LIMITS, CommitRecord(), lambda *_: None)
    committer.add(result(0, 0, 10), 7.0)
    assert committer.due_in(7.0) > 0.0  # of which nothing was kept
    committer.add(result(1, 1, 10), 7.0)
    assert committer.due_in(7.0) == 0.0


def test_a_window_of_one_never_waits_for_company(sink, acks):
    limits = replace(LIMITS, window=1)
    committer = GroupCommit(
        sink, SCHEMA, limits, CommitRecord(), lambda first, *_: acks.append(first)
    )
    committer.add(result(0, 0, 400), 0.0)
    assert acks == [0]


def test_a_group_closes_before_its_summaries_exceed_an_acknowledgement(
    committer, sink, acks, monkeypatch
):
    size = len(result(0, 1).summary)
    monkeypatch.setattr(group_commit, "_MAX_SUMMARY_BYTES", 3 * size)
    for seq in range(7):
        committer.add(result(seq, 1), 0.0)
    committer.flush()
    assert [len(commit.events_by_batch) for _, commit in sink.writes] == [3, 3, 1]
    assert [event for batch, _ in sink.writes for event in batch["event_id"]] == [
        1000 * seq for seq in range(7)
    ]
