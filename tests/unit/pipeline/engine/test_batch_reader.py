"""Batches as both engines read them: numbered, counted, and never while the run is paused."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.engine import batch_reader
from sluice.pipeline.engine.batch_reader import BatchReader
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.sources.base import UNLIMITED, Available


class Source:
    """A source with a schedule; it notes what is asked."""

    socket = None

    def __init__(self):
        self.waiting, self.batches, self.asked, self.shifts = UNLIMITED, [], [], []

    def available(self):
        return self.waiting

    def read(self, max_events):
        self.asked.append(max_events)
        return self.batches.pop(0) if self.batches else None

    def shift(self, ns):
        self.shifts.append(ns)


@pytest.fixture
def reader():
    """Return a reader of a new or a resumed run, with batches of 1,000 events at most."""

    def make(resumed=None, rung=None):
        table = SimpleNamespace(batch_events=1000, latency_budget="100ms")
        graph = SimpleNamespace(config=SimpleNamespace(graph=table), rungs=3,
                                decision_stage=lambda: None)  # fmt: skip
        context = SimpleNamespace(
            graph=graph, source=Source(), accounting=Mock(), resumed=resumed,
            control=SimpleNamespace(paused=False), replayed_rung=lambda: rung,
            assign_sequence=lambda batch, seq: EventBatch(batch.columns, batch.events, seq),
        )  # fmt: skip
        return BatchReader(context, Mock()), context

    return make


@pytest.mark.parametrize(("resumed", "first"), [(None, 0), (CommitRecord(next=7), 7)])
def test_batches_are_numbered_counted_and_looked_at(reader, resumed, first):
    reader, context = reader(resumed)
    context.source.batches = [EventBatch({}, 10), EventBatch({}, 20)]
    read = [reader.next(1) for _ in range(3)]
    batches = [taken[0] for taken in read[:2]]
    assert [(batch.seq, batch.events) for batch in batches] == [(first, 10), (first + 1, 20)]
    assert [taken[1] for taken in read[:2]] == [0, 0]
    assert read[2] is None
    assert reader.next_seq == first + 2
    assert [one.args for one in context.accounting.record_offered.mock_calls] == [
        (batch,) for batch in batches
    ]
    assert reader._epochs.record_first_event.call_count == 2


def test_a_rung_that_the_source_fixes_is_kept(reader):
    reader, context = reader(rung=2)
    context.source.batches = [EventBatch({}, 10)]
    reader.ladder.choose = Mock()
    assert reader.next(4)[1] == 2
    reader.ladder.choose.assert_not_called()


def test_the_ladder_is_asked_with_what_was_read(reader):
    reader, context = reader()
    context.source.batches = [EventBatch({}, 10)]
    reader.ladder.choose = Mock(return_value=1)
    assert reader.next(4)[1] == 1
    reader.ladder.choose.assert_called_once_with(UNLIMITED, 10, 4)


def test_a_file_gives_full_batches_and_a_live_source_those_of_the_policy(reader):
    reader, context = reader()
    reader.batching.set_service_times([[(1, 0.001), (1000, 1.0)]])
    reader.next(1)
    context.source.waiting = Available(500, 1)
    reader.next(1)
    assert context.source.asked == [1000, reader.batching.target_events]
    assert reader.batching.target_events < 1000


def test_a_schedule_is_shifted_by_the_length_of_each_pause(reader, monkeypatch):
    reader, context = reader()
    now = [100]
    monkeypatch.setattr(batch_reader.time, "monotonic_ns", lambda: now[0])
    seen = []
    for at_ns, paused in ((100, False), (110, True), (150, True), (170, False), (180, False),
                          (200, True), (205, False)):  # fmt: skip
        now[0], context.control.paused = at_ns, paused
        seen.append(reader.is_paused())
    assert seen == [False, True, True, False, False, True, False]
    assert context.source.shifts == [60, 5]
