"""The comparison with a recorded run finds what was changed, event by event."""

from __future__ import annotations

import numpy as np
import pytest

from sluice.pipeline.config.strict import strict_convert
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.schema import DECISION, EVENT_ID, OUTCOME, Column, Schema
from sluice.pipeline.journal.batch_record import pack_batch_record
from sluice.pipeline.journal.commit import BatchResult, Journal, ModelSwapRecord
from sluice.pipeline.recording import RecordingWriter
from sluice.pipeline.sinks.comparison import ComparisonSink
from sluice.pipeline.transport.batch_summary import BatchSummary, pack_summary

SCORE = Column("score", "float32", (2,))
SCHEMA = Schema((EVENT_ID, OUTCOME, DECISION, SCORE))
SIZES = (5, 1, 40, 0, 13, 40)
BOR = {"run": 9, "menu": {"version": "a"}, "models": {"tag": {"name": "x"}}}


@pytest.fixture
def processed():
    """Batches as a run may process them; ids in no order."""
    rng = np.random.default_rng(4)
    batches = []
    for seq, size in enumerate(SIZES):
        decision = rng.integers(0, 3, size).astype(np.uint64)
        other = rng.choice([Outcome.REJECTED, Outcome.PRESCALED, Outcome.INVALID], size)
        columns = {
            "event_id": rng.permutation(1000).astype(np.uint64)[:size],
            "outcome": np.where(decision > 0, Outcome.ACCEPTED, other).astype(np.uint8),
            "decision": decision,
            "score": rng.random((size, 2), np.float32),
        }
        batches.append(EventBatch(columns, size, seq))
    return batches


def settle(journal, batches):
    """Return the commit of some batches of which all is kept, and all their events."""
    results = []
    for batch in batches:
        counts = np.bincount(batch["outcome"], minlength=8).astype(np.int64)
        record = pack_batch_record(batch.seq, batch["event_id"], counts.tolist(), batch.seq // 3, 0)
        summary = pack_summary(BatchSummary(counts.tobytes(), bytes(512), 0, [], record))
        results.append(BatchResult(batch.seq, batch.events, batch, summary))
    return journal.append(results)[0], results


def new_journal():
    """Return a journal that knows of the swaps between the batches."""
    journal = Journal()
    for epoch in range(1, 10):
        journal.register_swap(
            ModelSwapRecord(epoch=epoch, stage="tag", name="tagger", version=str(epoch), sha256="")
        )
    return journal


def write_run(path, batches, keep, columns):
    bor = BOR | {"config": {"sink": {"options": {"keep": keep}}}}
    schema, journal = SCHEMA.select(columns), new_journal()
    with RecordingWriter(path, schema, bor) as writer:
        for batch in batches:
            _, (result,) = settle(new_journal(), [batch])
            rows = np.arange(batch.events)
            if keep == "accepted":
                rows = np.flatnonzero(batch["outcome"] == Outcome.ACCEPTED)
            kept = batch.select(columns).take(rows)
            commit, _ = journal.append([result._replace(kept=kept)])
            writer.write(kept, commit.encode())
    return path


def compare(path, batches, *, max_differences=100, columns=(), bor=BOR):
    options = {"run": str(path), "most": max_differences, "columns": list(columns)}
    sink = ComparisonSink("compare", strict_convert(options, ComparisonSink.Options, "here"))
    sink.open(SCHEMA.select(sink.columns), bor)
    journal = new_journal()
    for group in (batches[:1], batches[1:4], batches[4:]):
        if not group:
            continue
        commit, _ = settle(journal, group)
        parts = [batch.select(sink.columns) for batch in group]
        joined = {n: np.concatenate([p[n] for p in parts]) for n in sink.columns}
        sink.write(EventBatch(joined, sum(p.events for p in parts), 0), commit)
    sink.close({})
    return sink.describe()["comparison"]


def changed(batches, seq, row, **values):
    columns = {name: array.copy() for name, array in batches[seq].columns.items()}
    for name, value in values.items():
        columns[name][row] = value
    return [*batches[:seq], EventBatch(columns, SIZES[seq], seq), *batches[seq + 1 :]]


KEEPS = pytest.mark.parametrize("keep", ["accepted", "all"])


@KEEPS
@pytest.mark.parametrize("columns", [("event_id", "decision"), SCHEMA.names])
def test_equal_decisions_are_the_same(tmp_path, processed, keep, columns):
    path = write_run(tmp_path / "run.arrows", processed, keep, columns)
    found = compare(path, processed, columns=["score"] if "score" in columns else [])
    assert found["same"]
    assert set(found["different"].values()) == {0}
    assert (found["batches"], found["events"]) == (5, 99)
    assert found["run"] == 9
    assert found["epochs"] == {"0": 0, "1": 0}


@KEEPS
def test_another_decision_is_found_and_named(tmp_path, processed, keep):
    path = write_run(tmp_path / "run.arrows", processed, keep, SCHEMA.names)
    for row in range(13):
        before = processed[4]["decision"][row]
        after = 0 if before else 4
        outcome = Outcome.REJECTED if before else Outcome.ACCEPTED
        found = compare(path, changed(processed, 4, row, decision=after, outcome=outcome))
        assert not found["same"]
        assert found["different"]["events"] == found["different"]["batches"] == 1
        assert found["epochs"] == {"0": 0, "1": 1}
        (one,) = found["first"]
        assert (one["batch_seq"], one["event_id"]) == (4, processed[4]["event_id"][row])
        assert one["decision"] == [before, after]
        assert "outcome" in one


@KEEPS
def test_rejected_instead_of_prescaled_shows_in_the_counts(tmp_path, processed, keep):
    path = write_run(tmp_path / "run.arrows", processed, keep, SCHEMA.names)
    row = int(np.flatnonzero(processed[2]["outcome"] == Outcome.PRESCALED)[0])
    found = compare(path, changed(processed, 2, row, outcome=Outcome.REJECTED))
    assert not found["same"]
    assert found["different"]["batches"] == 1
    assert found["different"]["events"] == (1 if keep == "all" else 0)


@KEEPS
def test_a_bit_of_a_score_is_found_where_the_event_was_kept(tmp_path, processed, keep):
    path = write_run(tmp_path / "run.arrows", processed, keep, SCHEMA.names)
    for row, accepted in enumerate(processed[4]["outcome"] == Outcome.ACCEPTED):
        nudged = np.nextafter(processed[4]["score"][row], np.float32(2))
        other = changed(processed, 4, row, score=nudged)
        assert compare(path, other)["same"]
        found = compare(path, other, columns=["score"])
        assert found["different"]["score"] == int(accepted or keep == "all")


def test_the_list_is_bounded_and_the_count_is_not(tmp_path, processed):
    path = write_run(tmp_path / "run.arrows", processed, "all", SCHEMA.names)
    other = changed(processed, 5, slice(None), decision=64)
    found = compare(path, other, max_differences=3)
    assert found["different"]["decision"] == 40
    assert len(found["first"]) == 3


def test_batches_that_were_not_replayed_are_missed(tmp_path, processed):
    path = write_run(tmp_path / "run.arrows", processed, "accepted", SCHEMA.names)
    found = compare(path, processed[:4])
    assert not found["same"]
    assert found["missing_batches"] == 2


def test_another_menu_and_other_models_are_reported(tmp_path, processed):
    path = write_run(tmp_path / "run.arrows", processed, "accepted", SCHEMA.names)
    bor = {"menu": {"version": "b"}, "models": {"tag": {"name": "y"}}}
    found = compare(path, processed, bor=bor)
    assert found["same"]
    assert found["menu"] == ["a", "b"]
    assert found["models"] == {"tag": [{"name": "x"}, {"name": "y"}]}


def test_a_comparison_cannot_be_continued(tmp_path, processed):
    path = write_run(tmp_path / "run.arrows", processed, "accepted", SCHEMA.names)
    sink = ComparisonSink("compare", ComparisonSink.Options(str(path)))
    with pytest.raises(OSError, match="cannot be continued"):
        sink.open(SCHEMA, BOR, 3)


def test_a_column_of_another_dtype_is_refused(tmp_path, processed):
    path = write_run(tmp_path / "run.arrows", processed, "accepted", SCHEMA.names)
    sink = ComparisonSink("compare", ComparisonSink.Options(str(path), ("score",)))
    other = Schema((EVENT_ID, OUTCOME, DECISION, Column("score", "float32", (3,))))
    with pytest.raises(ConfigError, match=r"'score'.*float32\[3\].*float32\[2\]"):
        sink.open(other, BOR)
