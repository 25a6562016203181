"""Batches in flight: whose they are, which slots are free, and how many may be sent."""

from __future__ import annotations

import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.engine.distributed.in_flight import InFlight
from sluice.pipeline.engine.distributed.in_flight_batch import InFlightBatch


def entry(seq, events=10, **other):
    return InFlightBatch(batch=EventBatch({}, events, seq), **other)


@pytest.fixture
def in_flight():
    """A window of three batches of ten events, and two workers that may have two each."""
    made = InFlight(3, 10)
    for worker in ("a", "b"):
        made.add_credit(worker, 2)
    return made


def test_a_batch_is_known_by_its_number_and_its_token(in_flight):
    for seq, token in ((0, 70), (1, 71)):
        in_flight.add(entry(seq, token=token))
        in_flight.assign(seq, "a", seq)
    known = [(seq, token) for seq in range(3) for token in (70, 71, 72)
             if in_flight.is_assigned("a", seq, token)]  # fmt: skip
    assert known == [(0, 70), (1, 71)]
    assert not in_flight.is_assigned("b", 0, 70)


def test_the_window_counts_events(in_flight):
    for seq, events in enumerate((10, 9, 1)):
        assert not in_flight.full
        in_flight.add(entry(seq, events))
    assert not in_flight.full  # ten more events fill three full batches
    in_flight.add(entry(3, 1))
    assert in_flight.full
    assert in_flight.blocked
    assert in_flight.complete(1)[0].events == 9
    assert not in_flight.full
    assert not in_flight.blocked


def test_without_credit_nothing_may_be_sent(in_flight):
    sent = []
    while (worker := in_flight.next_worker()) is not None:
        in_flight.add(entry(len(sent), 1))
        in_flight.assign(len(sent), worker, None)
        sent.append(worker)
    assert sorted(sent) == ["a", "a", "b", "b"]
    assert sent[0] != sent[1]  # the one with the most credit comes next
    assert in_flight.blocked
    assert not in_flight.full
    assert [in_flight.assigned(worker) for worker in "ab"] == [2, 2]
    assert in_flight.workers == ["a", "b"]


def test_a_slot_is_free_when_its_batch_is_complete_and_its_worker_has_reported(in_flight):
    for seq, slot in ((0, 4), (1, 5)):
        in_flight.add(entry(seq))
        in_flight.assign(seq, "a", slot)
    assert in_flight.add_credit("a", 3, 0) == (in_flight[0], [])  # reported, not committed
    assert in_flight.complete(0)[1] == [4]
    assert in_flight.complete(1)[1] == []  # committed, and the worker may write into it still
    assert in_flight.complete(1) is None
    assert in_flight.add_credit("a", 4, 1) == (None, [5])
    assert in_flight.idle
    assert len(in_flight) == 0


def test_slots_of_a_worker_that_exited_are_free_when_the_batch_is_complete(in_flight):
    for seq, slot in ((0, 4), (1, 5)):
        in_flight.add(entry(seq))
        in_flight.assign(seq, "a", slot)
    in_flight.complete(0)
    assert in_flight.reclaim("a") == [4]
    assert in_flight.next_requeued() == 1
    in_flight.assign(1, "b", 6)
    assert (in_flight[1].worker, in_flight[1].slot) == ("b", 6)
    in_flight.add_credit("b", 3, 1)
    assert sorted(in_flight.complete(1)[1]) == [5, 6]
    assert in_flight.next_worker() == "b"  # the credit of the other one went with it


@pytest.mark.parametrize(("in_slot", "slot"), [({}, 4), ({"in_slot": True}, 4),
                                               ({"in_slot": False}, None)])  # fmt: skip
def test_between_segments_a_batch_is_in_its_slot_or_in_the_message(in_slot, slot):
    in_flight = InFlight(3, 10, segments=2)
    in_flight.add_credit("a", 1)
    in_flight.add(entry(0, service_ns=5))
    in_flight.assign(0, "a", 4)
    assert in_flight.to_next_segment("a", 0, [b"found"], 30, **in_slot) == []
    waiting = in_flight[in_flight.next_for(1)]
    assert (waiting.slot, waiting.worker, waiting.segment) == (slot, "", 1)
    assert (waiting.segment_payload, waiting.service_ns) == ([b"found"], 35)
    assert in_flight.next_worker(0) == "a"


def test_only_what_is_sent_to_an_idle_worker_has_a_transport_time(in_flight):
    for seq in range(2):
        in_flight.add(entry(seq))
        in_flight.assign(seq, "a", None)
    assert in_flight[0].sent_idle_ns > 0
    assert in_flight[1].sent_idle_ns == 0


def test_the_oldest_batch_and_epoch_are_those_in_flight(in_flight):
    assert (in_flight.oldest, in_flight.oldest_epoch(7)) == (None, 7)
    for seq, epoch in ((5, 2), (3, 1), (4, 1)):
        in_flight.add(entry(seq, epoch=epoch))
    assert (in_flight.oldest, in_flight.oldest_epoch(7)) == (3, 1)
    in_flight.complete(3)
    in_flight.complete(4)
    assert (in_flight.oldest, in_flight.oldest_epoch(7)) == (5, 2)


def test_what_is_left_is_drained_in_order(in_flight):
    for seq in (2, 0, 1):
        in_flight.add(entry(seq))
    assert in_flight.full
    assert [batch.seq for batch in in_flight.drain()] == [0, 1, 2]
    assert not in_flight.full
    assert len(in_flight) == 0
