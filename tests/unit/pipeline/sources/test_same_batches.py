"""The source cuts another at a run's batches and says on which rung each was processed."""

from __future__ import annotations

import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import EVENT_ID, Schema
from sluice.pipeline.journal.batch_record import pack_batch_record
from sluice.pipeline.journal.commit import BatchResult, Journal
from sluice.pipeline.recording import RecordingWriter
from sluice.pipeline.sources.base import FixesRung
from sluice.pipeline.sources.same_batches import SameBatches
from sluice.pipeline.transport.batch_summary import BatchSummary, pack_summary

SCHEMA = Schema((EVENT_ID,))
SIZES = (3, 1, 0, 30, 7)


def record(path, *batches):
    with RecordingWriter(path, SCHEMA, {}) as writer:
        for ids in batches:
            writer.write(EventBatch({"event_id": np.array(ids, np.uint64)}, len(ids)))
    return path


@pytest.fixture
def run(tmp_path):
    """The recording of a run that kept nothing of its 41 events, from id 100 on; rung seq % 3."""
    path, journal, first = tmp_path / "run.arrows", Journal(), 100
    bor = {"config": {"sink": {"options": {}}}}
    with RecordingWriter(path, SCHEMA, bor) as writer:
        for seq, size in enumerate(SIZES):
            ids = np.arange(first, first + size, dtype=np.uint64)
            record = pack_batch_record(seq, ids, [0, 0, size, 0, 0, 0, 0, 0], 0, seq % 3)
            counts = np.array([0, 0, size, 0, 0, 0, 0, 0], np.int64).tobytes()
            none = EventBatch({"event_id": ids[:0]}, 0, seq)
            summary = pack_summary(BatchSummary(counts, bytes(512), 0, [], record))
            commit, _ = journal.append([BatchResult(seq, size, none, summary)])
            writer.write(none, commit.encode())
            first += size
    return path


@pytest.fixture
def cut(run):
    sources = []

    def make(path):
        of = {"use": "recording", "path": str(path)}
        source = SameBatches("again", SameBatches.Options(str(run), of))
        source.open()
        sources.append(source)
        return source

    yield make
    for source in sources:
        source.close()


@pytest.mark.parametrize("max_events", [1, 5, 100])
def test_batches_are_those_of_the_run_with_their_rungs(cut, tmp_path, max_events):
    source = cut(record(tmp_path / "in.arrows", range(90, 120), range(120, 150)))
    assert isinstance(source, FixesRung)
    assert source.expected == 41
    found = []
    while not source.exhausted:
        batch = source.read(max_events)
        found.append((batch["event_id"].tolist(), source.rung))
    stops = np.cumsum(SIZES) + 100
    assert found == [
        (list(range(stop - size, stop)), seq % 3)
        for seq, (size, stop) in enumerate(zip(SIZES, stops.tolist(), strict=True))
        if size
    ]
    assert source.read(max_events) is None


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([*range(100, 110), *range(111, 150)], "other events behind event 104"),
        (range(101, 150), "no event 100"),
        (range(100, 139), "other events behind event 134"),
        ([101, 100, *range(102, 150)], "other events behind event 100"),
    ],
)
def test_an_input_with_other_events_is_refused(cut, tmp_path, ids, said):
    source = cut(record(tmp_path / "in.arrows", list(ids)))
    with pytest.raises(DataError, match=said):
        list(iter(lambda: source.read(10), None))
    assert source.exhausted
