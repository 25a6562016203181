"""When batches close: on time, and no more often than their worker can process them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.engine.batching import BatchingPolicy, ServiceCurve
from sluice.pipeline.execution.warm_up import warm_up_sizes
from sluice.pipeline.sources.base import Available

MS = 1_000_000
CURVE = [(1, 200e-6), (1001, 1200e-6)]  # 200 us and 1 us an event


def batching(budget_s=5e-3, max_events=1001, curve=CURVE):
    rule = BatchingPolicy(budget_s, max_events)
    rule.set_service_times([curve])
    return rule


def waiting(events, age_s, now_ns=100 * MS):
    return Available(events, now_ns - round(age_s * 1e9)), now_ns


@pytest.mark.parametrize("max_events", [1, 2, 8, 9, 100, 4096, 16384, 1 << 20])
def test_sizes_go_from_one_to_the_maximum(max_events):
    found = warm_up_sizes(max_events)
    assert found[0] == 1
    assert found[-1] == max_events
    assert found == sorted(set(found))


def test_the_curve_is_linear_between_points_and_flat_beyond():
    curve = ServiceCurve([(10, 1e-3), (20, 2e-3)])
    assert [curve(n) for n in (1, 10, 15, 20, 1000)] == pytest.approx(
        [1e-3, 1e-3, 1.5e-3, 2e-3, 2e-3]
    )


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 0.1)), max_size=200))
def test_a_curve_stays_positive_and_finite_whatever_is_measured(measured):
    curve = ServiceCurve(CURVE)
    for events, took_s in measured:
        curve.update(events, took_s)
    for events in (1, 8, 500, 1001, 10**6):
        assert 0 < curve(events) <= curve.upper_bound(events) < 10


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_curve_follows_a_machine_that_changes_its_speed(factor):
    truth, curve = ServiceCurve(CURVE), ServiceCurve(CURVE)
    for n in range(600):
        events = 1 + n * 37 % 1001
        curve.update(events, factor * truth(events))
    for events in (1, 100, 900):
        assert curve(events) == pytest.approx(factor * truth(events), rel=0.1)
    assert curve.deviation < 0.05


def test_an_idle_rested_worker_gets_what_is_there():
    what, now = waiting(1, age_s=0)
    assert batching().due_in(what, now, idle=True) == 0


def test_a_full_batch_goes_to_a_busy_worker_too():
    what, now = waiting(1001, age_s=0)
    assert batching().due_in(what, now, idle=False) == 0


@given(st.integers(1, 1000), st.floats(0, 10e-3))
def test_a_batch_for_a_busy_worker_waits_until_the_budget_needs_it(events, age_s):
    what, now = waiting(events, age_s)
    due = batching().due_in(what, now, idle=False)
    service = ServiceCurve(CURVE)(events)
    assert due == pytest.approx(max(0.0, 5e-3 - age_s - service), abs=1e-6)


def test_a_budget_that_cannot_be_kept_makes_nobody_wait():
    what, now = waiting(1, age_s=0)
    assert batching(budget_s=100e-6).due_in(what, now, idle=False) == 0


def simulate(rate_hz, seconds=1.0, budget_s=5e-3, max_events=4096, curve=CURVE):
    """Run one worker on even arrivals by the rule; return batch sizes, latencies and its duty."""
    rule, truth = batching(budget_s, max_events, curve), ServiceCurve(curve)
    period, now, given, free = 1e9 / rate_hz, 0.0, 0, 0.0
    taken, late, busy = [], [], 0.0
    while now < seconds * 1e9:
        there = int(now / period) + 1 - given
        idle = now >= free
        if there < 1:
            now = given * period + 1
            continue
        due = rule.due_in(Available(there, int(given * period)), int(now), idle=idle)
        if due > 0:
            now = min(now + max(due, 1e-6) * 1e9, free if now < free else float("inf"))
            continue
        if not idle:
            now = free  # one batch at a time is enough here
            continue
        events = min(there, max_events)
        rule.on_sent(events, int(now), 1)
        free = now + truth(events) * 1e9
        busy += truth(events)
        late.append((free - given * period) * 1e-9)
        taken.append(events)
        given += events
        rule.on_done(events, int(truth(events) * 1e9), None)
    return taken, late, busy / seconds


@pytest.mark.parametrize("rate_hz", [1, 100, 1_000, 2_000])
def test_at_low_rates_every_event_goes_alone_and_at_once(rate_hz):
    taken, late, _ = simulate(rate_hz)
    assert set(taken) == {1}
    assert max(late) < 0.3e-3


@pytest.mark.parametrize("rate_hz", [10_000, 50_000, 200_000])
def test_at_middle_rates_small_batches_take_no_more_than_half_a_worker(rate_hz):
    taken, late, duty = simulate(rate_hz)
    assert duty < 0.55
    assert max(late) < 5e-3
    assert max(taken) < rate_hz * 5e-3


@pytest.mark.parametrize("rate_hz", [400_000, 700_000])
def test_at_high_rates_the_budget_closes_batches(rate_hz):
    _, late, duty = simulate(rate_hz)
    assert 0.5 < duty <= 1.01
    assert sorted(late)[int(0.99 * len(late))] < 5.2e-3


def test_rests_are_saved_up_for_bursts_but_not_for_ever():
    rule, now = batching(), 10**12
    closed = []
    while rule.due_in(Available(1, now), now, idle=True) == 0:
        rule.on_sent(1, now, 1)
        closed.append(now)
        assert len(closed) < 10
    assert len(closed) > 2


def test_more_workers_rest_together():
    gaps = []
    for workers in (1, 4):
        rule, now = batching(), 10**12
        for _ in range(10):
            rule.on_sent(1, now, workers)
        gaps.append(rule.due_in(Available(1, now), now, idle=True))
    assert gaps[0] == pytest.approx(4 * gaps[1], rel=0.01)


def test_a_batch_is_full_when_it_takes_half_of_the_budget():
    # One microsecond an event from 4,000 events on; 2.5 ms hold 2,500, which is less frugal.
    curve = [(1, 1e-3), (4_000, 4e-3), (40_000, 40e-3)]
    assert batching(5e-3, 40_000, curve).target_events == 4_000
    assert batching(20e-3, 40_000, curve).target_events == 10_000
    assert batching(1.0, 40_000, curve).target_events == 40_000
    what, now = waiting(10_000, age_s=0)
    assert batching(20e-3, 40_000, curve).due_in(what, now, idle=False) == 0


@given(
    st.lists(st.floats(1e-6, 1e-2), min_size=2, max_size=7),
    st.floats(1e-5, 1e-1),
    st.integers(1, 1 << 20),
)
def test_what_is_within_a_time_takes_no_longer(steps, budget_s, max_events):
    times, total = [], 0.0
    for size, step in zip(warm_up_sizes(max_events), steps, strict=False):
        total += step
        times.append((size, total))
    curve = ServiceCurve(times)
    events = curve.largest_within(budget_s)
    assert 1 <= events <= times[-1][0]
    assert events == 1 or curve(events) <= budget_s * (1 + 1e-9)
    assert events == times[-1][0] or curve(events + 1) >= budget_s * (1 - 1e-9)


@given(st.integers(1, 5000))
def test_events_need_their_share_of_a_batch_that_the_budget_allows(events):
    """So that many small batches do not look like a rung that is too slow for their rate."""
    rule = batching(curve=[(1, 1e-3), (101, 2e-3), (1001, 20e-3)])
    full = rule.target_events
    assert rule.curves[0](full) == pytest.approx(2.5e-3, rel=0.01)
    assert rule.required_s(full, 0) == pytest.approx(rule.curves[0](full))
    assert rule.required_s(events, 0) <= rule.curves[0](events)
    assert rule.required_s(events, 0) <= 1.01 * events * 2.5e-3 / full


@pytest.mark.parametrize("oldest_ns", [2**63 - 1, 2**62, 200 * MS])
def test_events_of_the_future_close_a_batch_like_new_ones(oldest_ns):
    """The clock of a source may be wrong: its events must not wait until their time has come."""
    rule, now_ns = batching(), 100 * MS
    new = rule.due_in(Available(10, now_ns), now_ns, idle=False)
    assert rule.due_in(Available(10, oldest_ns), now_ns, idle=False) == new < 5e-3
    assert rule.due_in(Available(10, oldest_ns), now_ns, idle=True) == 0
    assert not rule.is_late(10, Available(10, oldest_ns).age_s(now_ns))


@pytest.mark.parametrize("oldest_ns", [1, -1, -(2**63)])
def test_events_of_the_past_close_a_batch_at_once(oldest_ns):
    rule, now_ns = batching(), 10**12
    assert rule.due_in(Available(10, oldest_ns), now_ns, idle=False) == 0


def test_points_of_a_curve_are_sizes_with_their_times():
    assert ServiceCurve([(101, 0.002), (1, 0.001)]).times_s == [(1, 0.001), (101, 0.002)]
