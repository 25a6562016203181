"""Shared memory in which batches lie while they are in flight."""

import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.schema import Column, Schema
from sluice.pipeline.engine.workers.shared_slots import SharedSlots

INPUTS = Schema((Column("event_id", "uint64"), Column("words", "uint32", (12,))))
OUTPUTS = Schema((Column("packed", "uint8", (20,)),))
MAX_EVENTS = 100


def make(path, count=3, events=MAX_EVENTS, create=True, results=None):
    """Open the slots of a run."""
    result_events = events if results is None else results
    return SharedSlots(path, (INPUTS, OUTPUTS), events, result_events, count, create=create)


def batch(events, seed=0):
    """Return a batch of random words."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 1 << 32, (events, 12), np.uint32)
    return EventBatch({"event_id": np.arange(events, dtype=np.uint64), "words": words}, events)


def test_what_one_side_puts_the_other_side_sees(tmp_path):
    """Every slot holds its own batch, and its result beside it."""
    ours = make(tmp_path / "slots")
    theirs = make(tmp_path / "slots", create=False)
    sent = {ours.take(batch(events, events)): events for events in (MAX_EVENTS, 1, 0)}
    assert len(sent) == 3
    for slot, events in sent.items():
        packed = np.full((events, 20), events, "u1")
        theirs.write(slot, 1, EventBatch({"packed": packed}, events))
    for slot, events in sent.items():
        seen, expected = theirs.batch(slot, 0, events, 7), batch(events, events)
        assert seen.seq == 7
        for name in INPUTS.names:
            np.testing.assert_array_equal(seen[name], expected[name])
        assert (ours.batch(slot, 1, events, 7)["packed"] == events).all()


def test_slots_are_given_out_once_until_they_are_given_back(tmp_path):
    """A batch that finds none free, or is too large for one, gets none."""
    slots = make(tmp_path / "slots")
    taken = [slots.take(batch(1)) for _ in range(3)]
    assert sorted(taken) == [0, 1, 2]
    assert slots.take(batch(1)) is None
    slots.release(taken[1:])
    assert slots.take(batch(MAX_EVENTS + 1)) is None
    assert slots.take(batch(MAX_EVENTS)) in taken[1:]


def test_a_worker_has_no_batch_that_ingest_overwrites(tmp_path):
    """A batch that is sent anew lies in another slot than before."""
    slots = make(tmp_path / "slots")
    first = slots.take(batch(5, 1))
    again = slots.take(batch(5, 1))
    assert first != again
    slots.write(first, 1, EventBatch({"packed": np.zeros((5, 20), "u1")}, 5))
    slots.write(again, 1, EventBatch({"packed": np.ones((5, 20), "u1")}, 5))
    assert not slots.batch(first, 1, 5, 0)["packed"].any()


def test_too_little_shared_memory_is_said_before_the_run(tmp_path):
    """Not by a signal in the middle of it."""
    with pytest.raises(RunError, match=r"cannot take .* MiB of shared memory"):
        make(tmp_path / "slots", count=1 << 30, events=1 << 20)


def test_small_batches_have_small_slots_and_leave_the_others_alone(tmp_path):
    """Dozens of small batches may wait for their commit; full ones get a slot all the same."""
    events = 1280
    slots = make(tmp_path / "slots", count=2, events=events)
    theirs = make(tmp_path / "slots", count=2, events=events, create=False)
    small = {slots.take(batch(10, seed)): seed for seed in range(128)}
    full = [slots.take(batch(events, seed)) for seed in (200, 201)]
    assert len({*small, *full} - {None}) == 130
    assert slots.take(batch(1)) is None
    for slot, seed in [*small.items(), *zip(full, (200, 201), strict=True)]:
        expected = batch(10 if slot in small else events, seed)
        seen = theirs.batch(slot, 0, expected.events, 0)
        for name in INPUTS.names:
            np.testing.assert_array_equal(seen[name], expected[name])
    slots.release([next(iter(small)), full[0]])
    assert slots.take(batch(11)) == full[0]
    assert slots.take(batch(11)) is None
    assert slots.take(batch(10)) in small


def test_small_slots_take_as_much_memory_as_one(tmp_path):
    """A part of a slot each, and the padding of their columns."""
    make(tmp_path / "two", count=2, events=1280)
    make(tmp_path / "three", count=3, events=1280)
    two, three = ((tmp_path / name).stat().st_size for name in ("two", "three"))
    assert two <= 3 * (three - two) + 128 * 64 * 3


def test_results_have_the_space_that_they_were_promised(tmp_path):
    """More results than that do not fit; what does not leave each other's memory alone."""
    slots = make(tmp_path / "slots", results=25)
    taken = [slots.take(batch(MAX_EVENTS, seed)) for seed in range(3)]
    for slot in taken:
        assert slots.write(slot, 1, EventBatch({"packed": np.full((25, 20), slot, "u1")}, 25))
        assert not slots.write(slot, 1, EventBatch({"packed": np.full((26, 20), 9, "u1")}, 26))
    for seed, slot in enumerate(taken):
        seen = slots.batch(slot, 0, MAX_EVENTS, 0)
        np.testing.assert_array_equal(seen["words"], batch(MAX_EVENTS, seed)["words"])
        assert (slots.batch(slot, 1, 25, 0)["packed"] == slot).all()
    assert (tmp_path / "slots").stat().st_size < 3 * (MAX_EVENTS * 56 + 25 * 20 + 3 * 64)
