"""Commit records count what the batches' summaries say, over all attempts of a run."""

from __future__ import annotations

import numpy as np

from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.journal.batch_record import pack_batch_record
from sluice.pipeline.journal.commit import BatchResult, CommitRecord, Journal, read_commit
from sluice.pipeline.transport.batch_summary import BatchSummary, pack_summary


def result(seq, accepted, rejected, paths):
    """A batch of which the accepted events are kept; `paths` are events by bit."""
    events = accepted + rejected
    counts, bits = np.zeros(len(Outcome), np.int64), np.zeros(64, np.int64)
    counts[Outcome.ACCEPTED], counts[Outcome.REJECTED] = accepted, rejected
    for bit, number in paths.items():
        bits[bit] = number
    ids = np.arange(100 * seq, 100 * seq + events, dtype=np.uint64)
    record = pack_batch_record(seq, ids, counts.tolist(), 0, 0)
    summary = BatchSummary(counts.tobytes(), bits.tobytes(), 1000 + seq, [], record)
    kept = EventBatch({"event_id": ids[:accepted]}, accepted, seq)
    return BatchResult(seq, events, kept, pack_summary(summary)), summary


def counts(accepted, rejected):
    by_outcome = [0] * len(Outcome)
    by_outcome[Outcome.ACCEPTED], by_outcome[Outcome.REJECTED] = accepted, rejected
    return tuple(by_outcome)


def test_a_record_has_its_batches_and_the_sums_of_all_before():
    journal = Journal()
    first = [result(0, 4, 6, {0: 3, 63: 1}), result(1, 0, 5, {})]
    second = [result(2, 7, 1, {0: 2, 5: 6})]
    one, ack = journal.append([batch for batch, _ in first])
    two, _ = journal.append([batch for batch, _ in second])
    assert (one.next, one.events_by_batch, one.kept, one.written) == (2, [10, 5], [4, 0], 4)
    assert (one.counts, one.paths) == (counts(4, 11), {0: 3, 63: 1})
    assert (two.next, two.events_by_batch, two.kept, two.written) == (3, [8], [7], 11)
    assert (two.counts, two.paths) == (counts(11, 12), {0: 5, 5: 6, 63: 1})
    assert (one.first, two.first, two.events) == (0, 2, 23)
    assert one.unpacked() == [summary for _, summary in first]
    assert one.payload() == ack
    assert journal.counts == list(counts(11, 12))
    for commit in (one, two):
        assert read_commit(commit.encode(), "here") == commit


def test_another_attempt_goes_on_with_the_sums():
    last = CommitRecord(next=2, counts=counts(4, 11), paths={0: 3, 63: 1}, written=4)
    commit, _ = Journal(last).append([result(2, 7, 1, {0: 2, 5: 6})[0]])
    assert (commit.next, commit.counts, commit.written) == (3, counts(11, 12), 11)
    assert commit.paths == {0: 5, 5: 6, 63: 1}
