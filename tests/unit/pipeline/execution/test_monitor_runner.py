"""Monitors see a sample of the decided events, and hold up nobody."""

from __future__ import annotations

import threading
from itertools import chain

import numpy as np
import pytest

from sluice.kernels.hashing import salt, sample_mask
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.schema import EVENT_ID, Column, Schema
from sluice.pipeline.execution import monitor_runner
from sluice.pipeline.execution.monitor_runner import MonitorRunner

_WAIT_S = 10.0
VALUE = Column("value", "float32")


class Meter:
    """Notes what a monitor's meter would count."""

    def __init__(self):
        self.values, self.dropped = [], []

    def record(self, values):
        self.values += values.tolist()

    def drop(self, events):
        self.dropped.append(events)


class Values:
    """A monitor of a column; it waits for `free`, and fails where a value is negative."""

    consumes = Schema((EVENT_ID, VALUE))

    def __init__(self, name="values", sample=1.0):
        self.name, self.sample = name, sample
        self.state, self.seen, self.columns = "", [], set()
        self.free = threading.Event()
        self.free.set()
        self.at_work = threading.Event()

    def open(self, events):
        if self.state == "cannot open":
            raise RuntimeError("no model")
        self.state = f"open for {events}"

    def observe(self, batch):
        self.at_work.set()
        assert self.free.wait(_WAIT_S)
        self.columns = set(batch.columns)
        self.seen.append(batch["event_id"].tolist())
        if (batch["value"] < 0).any():
            raise ArithmeticError("negative")
        return batch["value"]

    def close(self):
        self.state = "closed"


@pytest.fixture
def clock(monkeypatch):
    """The time that the runner sees, s; it stands still unless the test sets it."""
    now = [1000.0]
    monkeypatch.setattr(monitor_runner.time, "monotonic", lambda: now[0])
    return now


def batch(first, values, outcomes=None):
    events = len(values)
    columns = {
        "event_id": np.arange(first, first + events, dtype=np.uint64),
        "value": np.array(values, np.float32),
        "other": np.zeros(events, np.float32),
        "outcome": np.full(events, Outcome.REJECTED, np.uint8),
    }
    if outcomes is not None:
        columns["outcome"] = np.array(outcomes, np.uint8)
    return EventBatch(columns, events)


def started(*monitors):
    meters = [Meter() for _ in monitors]
    runner = MonitorRunner(monitors, meters)
    runner.open(500)
    return runner, *meters


def test_only_decided_events_are_seen_with_the_columns_that_are_wanted():
    monitor = Values()
    runner, meter = started(monitor)
    assert monitor.state == "open for 500"
    runner.offer(batch(10, range(8), list(Outcome)))
    runner.close()
    decided = [outcome for outcome in Outcome if outcome < Outcome.SHED]
    assert monitor.seen == [[10 + outcome for outcome in decided]]
    assert meter.values == [float(outcome) for outcome in decided]
    assert monitor.columns == {"event_id", "value"}
    assert monitor.state == "closed"


def test_each_monitor_has_a_sample_of_its_own():
    monitors = [Values("one", 0.25), Values("two", 0.25)]
    runner, one, two = started(*monitors)
    values = np.arange(1000)
    runner.offer(batch(0, values))
    runner.close()
    for monitor, meter in zip(monitors, (one, two), strict=True):
        mask = np.empty(1000, np.bool_)
        sample_mask(values.astype(np.uint64), salt(f"monitor/{monitor.name}"), 0.25, mask)
        assert meter.values == values[mask].tolist()
    assert one.values != two.values


def test_a_sample_is_handed_over_when_it_is_large_or_old(clock):
    monitor = Values()
    runner, _ = started(monitor)
    first = 0
    # The first at once, as nothing was handed over for long; then 1,024 events, and 0.3 s later.
    for events, later_s in ((10, 0.0), (1023, 0.0), (1, 0.0), (5, 0.1), (6, 0.2), (7, 0.0)):
        clock[0] += later_s
        runner.offer(batch(first, range(events)))
        first += events
    runner.close()
    assert [len(seen) for seen in monitor.seen] == [10, 1024, 11, 7]
    assert list(chain.from_iterable(monitor.seen)) == list(range(first))


def test_what_is_no_number_is_not_counted():
    runner, meter = started(Values())
    runner.offer(batch(0, [1, np.nan, 2, np.inf]))
    runner.close()
    assert (meter.values, meter.dropped) == ([1.0, 2.0], [])


def test_a_monitor_that_fails_loses_that_sample_only(clock):
    monitor = Values()
    runner, meter = started(monitor)
    for first, values in ((0, [1, 2]), (2, [3, -1, 4]), (5, [5])):
        clock[0] += 1.0
        runner.offer(batch(first, values))
    runner.close()
    assert (meter.values, meter.dropped) == ([1.0, 2.0, 5.0], [3])


def test_samples_that_would_wait_for_long_are_dropped_and_counted(clock):
    monitor = Values()
    monitor.free.clear()
    runner, meter = started(monitor)
    for number in range(20):
        clock[0] += 1.0
        runner.offer(batch(10 * number, [number] * (number + 1)))
        assert monitor.at_work.wait(_WAIT_S)  # the thread has the first one
    # One is observed, sixteen wait.
    assert meter.dropped == [18, 19, 20]
    monitor.free.set()
    runner.close()
    assert len(meter.values) == sum(range(1, 18))


def test_if_a_monitor_cannot_open_the_others_are_closed():
    first, second, third = Values("first"), Values("second"), Values("third")
    second.state = "cannot open"
    runner = MonitorRunner([first, second, third], [Meter(), Meter(), Meter()])
    with pytest.raises(RuntimeError, match="no model"):
        runner.open(500)
    assert [first.state, second.state, third.state] == ["closed", "cannot open", ""]


def test_without_monitors_nothing_is_started():
    before = threading.active_count()
    (runner,) = started()
    assert threading.active_count() == before
    runner.offer(batch(0, [1]))
    runner.close()
