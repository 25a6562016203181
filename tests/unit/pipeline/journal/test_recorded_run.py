"""A run's recording gives back every batch as it was, also those of which nothing was kept."""

from __future__ import annotations

import numpy as np
import pytest

from sluice.kernels.hashing import order_digest
from sluice.pipeline.core.batch import EventBatch, Outcome, concatenate
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import EVENT_ID, OUTCOME, Schema
from sluice.pipeline.journal.batch_record import pack_batch_record
from sluice.pipeline.journal.commit import BatchResult, Journal, ModelSwapRecord
from sluice.pipeline.journal.recorded_run import RecordedRun
from sluice.pipeline.recording import RecordingWriter
from sluice.pipeline.transport.batch_summary import BatchSummary, pack_summary

SCHEMA = Schema((EVENT_ID, OUTCOME))
#: Accepted and rejected events of each batch, and how many batches are committed together.
BATCHES = ((0, 3), (2, 1), (0, 5), (0, 1), (0, 0), (4, 0), (0, 2), (3, 3), (0, 1))
GROUPS = (1, 3, 2, 2, 1)


def ids_of(seq, events):
    return np.arange(100 * seq, 100 * seq + events, dtype=np.uint64)


def result_of(seq, keep):
    accepted, rejected = BATCHES[seq]
    ids = ids_of(seq, accepted + rejected)
    counts = np.zeros(8, np.int64)
    counts[[Outcome.ACCEPTED, Outcome.REJECTED]] = accepted, rejected
    record = pack_batch_record(seq, ids, counts.tolist(), seq // 3, seq % 2)
    summary = BatchSummary(counts.tobytes(), bytes(512), 0, [], record)
    kept = ids if keep == "all" else ids[:accepted]
    outcome = np.where(kept < 100 * seq + accepted, Outcome.ACCEPTED, Outcome.REJECTED)
    batch = EventBatch({"event_id": kept, "outcome": outcome.astype(np.uint8)}, len(kept), seq)
    return BatchResult(seq, len(ids), batch, pack_summary(summary))


def write(path, keep, *, whole=True):
    bor = {"run": 3, "config": {"sink": {"options": {"keep": keep}}}}
    writer, journal, seq = RecordingWriter(path, SCHEMA, bor), Journal(), 0
    for epoch in range(1, len(BATCHES)):
        journal.register_swap(
            ModelSwapRecord(epoch=epoch, stage="tag", name="tagger", version=str(epoch), sha256="")
        )
    for size in GROUPS:
        results = [result_of(number, keep) for number in range(seq, seq + size)]
        commit, _ = journal.append(results)
        writer.write(concatenate([result.kept for result in results]), commit.encode())
        seq += size
    if whole:
        writer.close({})
    else:
        writer.close_incomplete()
    return path


@pytest.mark.parametrize("keep", ["accepted", "all"])
@pytest.mark.parametrize("whole", [True, False])
def test_every_batch_comes_back_with_its_kept_events(tmp_path, keep, whole):
    run = RecordedRun(write(tmp_path / "run.arrows", keep, whole=whole))
    assert run.keeps_all == (keep == "all")
    records = run.batch_records()
    assert records["seq"].tolist() == list(range(len(BATCHES)))
    for seq, ((record, kept), same) in enumerate(zip(run.batches(), records, strict=True)):
        accepted, rejected = BATCHES[seq]
        events = accepted + rejected
        assert record == same
        assert record["events"] == events
        assert record["first"] == (100 * seq if events else 0)
        assert record["ids"] == order_digest(ids_of(seq, events))
        assert (record["accepted"], record["rejected"]) == (accepted, rejected)
        assert (record["epoch"], record["rung"]) == (seq // 3, seq % 2)
        size = events if keep == "all" else accepted
        assert kept["event_id"].tolist() == ids_of(seq, size).tolist()


def test_a_recording_that_is_not_of_a_run_is_refused(tmp_path):
    path = tmp_path / "wafers.arrows"
    with RecordingWriter(path, SCHEMA, {"events": 0}):
        pass
    with pytest.raises(DataError, match="expected the recording of a run"):
        RecordedRun(path)


def test_a_run_without_a_journal_is_refused(tmp_path):
    path = tmp_path / "old.arrows"
    with RecordingWriter(path, SCHEMA, {"config": {"sink": {"options": {}}}}) as writer:
        writer.write(EventBatch({c.name: c.empty(3) for c in SCHEMA}, 3))
    with pytest.raises(DataError, match="expected the records of its batches"):
        RecordedRun(path).batch_records()


def test_a_journal_that_does_not_fit_its_events_is_refused(tmp_path):
    path = tmp_path / "run.arrows"
    commit, _ = Journal().append([result_of(0, "all")])
    with RecordingWriter(path, SCHEMA, {"config": {"sink": {"options": {}}}}) as writer:
        writer.write(result_of(1, "all").kept.slice(0, 2), commit.encode())
    with pytest.raises(DataError, match="expected 3 kept events by the commit record, got 2"):
        list(RecordedRun(path).batches())
