"""Swaps are in the commit records: who goes on with a run knows which models it had."""

from __future__ import annotations

import numpy as np
import pytest

from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.errors import ConfigError, DataError, ModelError
from sluice.pipeline.core.schema import EVENT_ID, Schema
from sluice.pipeline.journal.batch_record import pack_batch_record
from sluice.pipeline.journal.commit import BatchResult, CommitRecord, Journal, ModelSwapRecord
from sluice.pipeline.journal.resume_point import ResumePoint, read_resume_point
from sluice.pipeline.recording import RecordingWriter
from sluice.pipeline.run.resume import graph_with_swaps, require_same_configuration, swap_report
from sluice.pipeline.transport.batch_summary import BatchSummary, pack_summary

SCHEMA = Schema((EVENT_ID,))
OLD = {"name": "tagger", "version": "1", "sha256": "aa", "backend": "layers"}
BOR = {"run": 7, "models": {"tag": OLD, "encode": OLD}, "config": {}, "paths": [], "menu": None}


def swapped(epoch, stage="tag", version=None):
    return ModelSwapRecord(
        epoch=epoch,
        stage=stage,
        name="tagger",
        version=str(version or epoch + 1),
        sha256=f"{epoch}b",
    )


def result(seq, epoch):
    ids = np.arange(10 * seq, 10 * seq + 10, dtype=np.uint64)
    counts = [0] * len(Outcome)
    counts[Outcome.ACCEPTED] = 10
    packed = np.array(counts, np.int64).tobytes()
    summary = BatchSummary(packed, bytes(512), 0, [], pack_batch_record(seq, ids, counts, epoch, 0))
    return BatchResult(seq, 10, EventBatch({"event_id": ids}, 10, seq), pack_summary(summary))


@pytest.fixture
def journal():
    return Journal()


def test_a_swap_is_noted_with_its_first_batch_and_then_its_model(journal):
    before, _ = journal.append([result(0, 0)])
    assert (before.epoch, before.models, before.swaps) == (0, {}, [])
    journal.register_swap(swapped(1))
    still, _ = journal.append([result(1, 0)])
    assert (still.epoch, still.models, still.swaps) == (0, {}, [])
    first, _ = journal.append([result(2, 0), result(3, 1), result(4, 1)])
    (swap,) = first.swaps
    assert (swap.epoch, swap.seq, swap.first_event, swap.version) == (1, 3, 30, "2")
    after, _ = journal.append([result(5, 1)])
    assert (after.epoch, after.swaps) == (1, [])
    assert after.models == {"tag": {"name": "tagger", "version": "2", "sha256": "1b"}}


def test_two_swaps_may_begin_with_one_batch(journal):
    for epoch, stage in ((1, "tag"), (2, "encode")):
        journal.register_swap(swapped(epoch, stage))
    commit, _ = journal.append([result(0, 2)])
    assert [(swap.epoch, swap.stage, swap.seq) for swap in commit.swaps] == [
        (1, "tag", 0), (2, "encode", 0)
    ]  # fmt: skip
    assert set(commit.models) == {"tag", "encode"}


def test_an_attempt_that_was_given_up_is_forgotten(journal):
    journal.register_swap(swapped(1, version=66))
    journal.register_swap(swapped(1, version=3))
    commit, _ = journal.append([result(0, 1)])
    assert commit.models["tag"]["version"] == "3"


def test_an_epoch_that_nobody_announced_is_not_written(journal):
    with pytest.raises(DataError, match="batch 4: processed in epoch 1, but the swap"):
        journal.append([result(4, 1)])


def test_it_knows_an_epoch_by_all_swaps_up_to_it(journal):
    assert [journal.knows_epoch(epoch) for epoch in (0, 1, 2)] == [True, False, False]
    journal.register_swap(swapped(2))
    assert not journal.knows_epoch(2)
    journal.register_swap(swapped(1))
    journal.append([result(0, 1)])
    assert [journal.knows_epoch(epoch) for epoch in (0, 1, 2, 3)] == [True, True, True, False]


def test_who_goes_on_knows_epoch_and_models(journal):
    journal.register_swap(swapped(1))
    last, _ = journal.append([result(0, 1)])
    successor = Journal(last)
    more, _ = successor.append([result(1, 1)])
    assert (more.epoch, more.models, more.swaps) == (1, last.models, [])
    successor.register_swap(swapped(2))
    commit, _ = successor.append([result(2, 2)])
    assert [swap.epoch for swap in commit.swaps] == [2]
    assert commit.models["tag"]["version"] == "3"


@pytest.fixture
def point(journal, tmp_path):
    """Where a run of five batches stands that was swapped twice."""
    path = tmp_path / "run.arrows"
    writer = RecordingWriter(path, SCHEMA, BOR)
    for epoch, stage in ((1, "tag"), (2, "encode")):
        journal.register_swap(swapped(epoch, stage))
    for seq, epoch in enumerate((0, 1, 1, 2, 2)):
        one = result(seq, epoch)
        writer.write(one.kept, journal.append([one])[0].encode())
    writer.close_incomplete()
    return read_resume_point(path)


def test_the_report_lists_swaps_of_previous_attempts(point):
    assert point.commit.epoch == 2
    tag, encode = swap_report(point)
    assert (tag["epoch"], tag["stage"], tag["seq"], tag["first_event"]) == (1, "tag", 1, 10)
    assert (encode["epoch"], encode["stage"], encode["first_event"]) == (2, "encode", 30)
    assert tag["from"] == OLD
    assert tag["to"] == {**OLD, "version": "2", "sha256": "1b"}
    assert encode["to"]["version"] == "3"


def test_the_models_to_resume_with_are_those_of_the_last_commit(point):
    models = {"tag": {**OLD, "version": "2", "sha256": "1b"},
              "encode": {**OLD, "version": "3", "sha256": "2b"}}  # fmt: skip
    require_same_configuration(BOR, {**BOR, "models": models}, point.commit)
    for other in (BOR["models"], models | {"tag": {**models["tag"], "sha256": "other"}}):
        with pytest.raises(ConfigError, match=r"cannot resume run 7: .* another models"):
            require_same_configuration(BOR, {**BOR, "models": other}, point.commit)


def test_the_graph_is_built_with_the_models_of_the_last_commit():
    models = {"tag": {"name": "wafer-tagger", "version": "2", "sha256": "x"}}
    point = ResumePoint({"run": 7}, CommitRecord(epoch=1, models=models))
    config = load_graph("hgcal")
    built = graph_with_swaps(config, point, lambda config: config)
    (tag,) = (part.options for part in built.stages if part.name == "tag")
    assert (tag["model"], tag["version"]) == ("wafer-tagger", 2)
    others = [part for part in config.stages if part.name != "tag"]
    assert [part for part in built.stages if part.name != "tag"] == others

    def gone(_):
        raise ModelError("model wafer-tagger/2: no such version")

    with pytest.raises(ModelError, match=r"run 7: it went on .*'tag': wafer-tagger/2\): .*no such"):
        graph_with_swaps(config, point, gone)
    with pytest.raises(ModelError, match=r"^model wafer-tagger/2: no such version"):
        graph_with_swaps(config, ResumePoint({"run": 7}, CommitRecord()), gone)
