"""The events that end their worker are found by the workers that follow; the others are decided."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.schema import DECISION, EVENT_ID, OUTCOME
from sluice.pipeline.execution.crash_search import (
    BATCH_KILLS_ITS_WORKERS,
    KILLS_ITS_WORKER,
    CrashSearch,
    RefusedBatch,
)
from sluice.pipeline.execution.isolation import StageError, isolate_failures


class WorkerEnds(BaseException):
    """What would be a crash."""


def batch_of(events):
    columns = {
        EVENT_ID.name: np.arange(events, dtype=np.uint64),
        OUTCOME.name: np.zeros(events, np.uint8), DECISION.name: np.zeros(events, np.uint64),
    }  # fmt: skip
    return EventBatch(columns, events)


def process_with(killers, broken=()):
    """Return a chain of stages that ends its worker on some events, and raises on others."""

    def process(part):
        ids = part[EVENT_ID.name]
        if np.isin(ids, list(killers)).any():
            raise WorkerEnds
        if np.isin(ids, list(broken)).any():
            raise StageError("s", ValueError("broken"))
        return part.with_columns(outcome=np.full(part.events, Outcome.ACCEPTED, np.uint8))

    return process


def search(folder, events, killers, broken=()):
    """Process a batch with one worker after another; return result, flags and number of ends."""
    for ends in range(1000):
        attempt = CrashSearch(folder / "notes")
        try:
            done, flags = isolate_failures(
                batch_of(events), process_with(killers, broken), {EVENT_ID.name}, {}, attempt
            )
        except WorkerEnds:
            continue
        return done, flags, ends
    raise AssertionError("never done")


def assert_found(done, flags, events, killers, broken=()):
    outcome = np.full(events, Outcome.ACCEPTED, np.uint8)
    outcome[[*killers, *broken]] = Outcome.FAILED
    np.testing.assert_array_equal(done[EVENT_ID.name], np.arange(events))
    np.testing.assert_array_equal(done[OUTCOME.name], outcome)
    named = {row: flag.reason for flag in flags for row in flag.rows}
    assert named == dict.fromkeys(killers, KILLS_ITS_WORKER) | dict.fromkeys(
        broken, "ValueError: broken"
    )


@given(st.integers(1, 3000), st.data())
def test_whatever_ends_a_worker_is_found_and_nothing_else_fails(tmp_path_factory, events, data):
    rows = st.lists(st.integers(0, events - 1), max_size=3, unique=True)
    killers, broken = set(data.draw(rows)), set(data.draw(rows))
    broken -= killers
    done, flags, ends = search(tmp_path_factory.mktemp("run"), events, killers, broken)
    assert_found(done, flags, events, killers, broken)
    assert ends <= 2 * len(killers)


@pytest.mark.parametrize(("events", "expected"), [(64, 1), (4096, 2), (1 << 18, 3)])
def test_few_workers_end_for_each_event(tmp_path, events, expected):
    killer = events - 3
    done, flags, ends = search(tmp_path, events, {killer})
    assert_found(done, flags, events, {killer})
    assert ends == expected


def test_a_batch_without_such_an_event_is_processed_at_once(tmp_path):
    """Two workers may have been killed by chance with the same batch."""
    done, flags, ends = search(tmp_path, 500, set())
    assert_found(done, flags, 500, set())
    assert ends == 0


def test_a_refused_batch_fails_without_being_processed():
    done, flags = isolate_failures(
        batch_of(500), process_with(range(500)), {EVENT_ID.name}, {}, RefusedBatch()
    )
    assert (done[OUTCOME.name] == Outcome.FAILED).all()
    assert done[EVENT_ID.name].tolist() == list(range(500))
    assert [(f.reason, f.outcome, f.rows) for f in flags] == [
        (BATCH_KILLS_ITS_WORKERS, Outcome.FAILED, list(range(500)))
    ]
