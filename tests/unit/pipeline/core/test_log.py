from __future__ import annotations

import logging
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core.log import LogLimiter

LOG = logging.getLogger("sluice.test")
TEXT = "{count:,} events shed by {source}"


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limiter(clock):
    return LogLimiter(10.0, clock)


def shed(limiter, count, source="live"):
    limiter.warn(LOG, "events-shed", TEXT, count, source=source)


def test_the_first_is_logged_at_once_then_a_sum(limiter, clock, caplog):
    shed(limiter, 7)
    assert caplog.messages == ["7 events shed by live"]
    for _ in range(1000):
        clock.now_s += 0.005
        shed(limiter, 2, "other")
        limiter.flush()
    assert len(caplog.records) == 1
    clock.now_s = 110.0
    limiter.flush()
    assert caplog.messages[1:] == ["2,000 events shed by other (2000 in 10.0 s)"]
    assert caplog.records[1].event == "events-shed"
    assert caplog.records[1].fields == {"count": 2000, "seconds": 10.0, "source": "other"}
    assert caplog.records[1].levelno == logging.WARNING


def test_after_a_quiet_interval_the_next_is_logged_at_once(limiter, clock, caplog):
    shed(limiter, 1)
    clock.now_s += 10.0
    limiter.flush()
    shed(limiter, 3)
    assert caplog.messages == ["1 events shed by live", "3 events shed by live"]


def test_kinds_do_not_hide_each_other(limiter, caplog):
    shed(limiter, 1)
    limiter.warn(LOG, "events-lost", "{count} events lost", 2)
    assert caplog.messages == ["1 events shed by live", "2 events lost"]


def test_what_a_peer_sent_is_no_template(limiter, caplog):
    shed(limiter, 1, "{count.__class__}%s")
    assert caplog.messages == ["1 events shed by {count.__class__}%s"]


def test_the_end_of_a_run_tells_what_is_left_and_begins_anew(limiter, clock, caplog):
    shed(limiter, 1)
    shed(limiter, 4)
    clock.now_s += 2.0
    limiter.flush(everything=True)
    shed(limiter, 5)
    assert caplog.messages[1:] == ["4 events shed by live (4 in 2.0 s)", "5 events shed by live"]


def test_a_burst_is_logged_line_by_line_then_summed(clock, caplog):
    caplog.set_level(logging.INFO)
    limiter = LogLimiter(10.0, clock, {"peer-came": 3})
    for number in range(8):
        limiter.info(LOG, "peer-came", "peer {peer} came", peer=number)
    limiter.flush(everything=True)
    assert caplog.messages == [
        "peer 0 came", "peer 1 came", "peer 2 came", "peer 7 came (5 in 0.0 s)",
    ]  # fmt: skip
    assert {record.levelno for record in caplog.records} == {logging.INFO}


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 30), st.booleans())))
def test_no_occurrence_is_lost_in_the_sums(steps):
    clock, lines = Clock(), []
    limiter = LogLimiter(10.0, clock)
    log = logging.Logger("apart")
    log.addFilter(lambda record: lines.append((clock.now_s, record.fields["count"])) is not None)
    for count, wait_s, flushed in steps:
        limiter.warn(log, "lost", "{count}", count)
        clock.now_s += wait_s
        if flushed:
            limiter.flush()
    times = [at_s for at_s, _ in lines]
    assert all(later - sooner >= 10.0 for sooner, later in pairwise(times))
    limiter.flush(everything=True)
    assert sum(count for _, count in lines) == sum(count for count, *_ in steps)


def test_the_interval_of_a_sum_stands_for_the_seconds_of_one_occurrence(limiter, clock, caplog):
    for seconds in (0.5, 0.7):
        limiter.info(LOG, "remote-worker-ready", "ready after {seconds} s", seconds=seconds)
    clock.now_s += 12.0
    with caplog.at_level(logging.INFO):
        limiter.flush()
    assert caplog.messages[-1] == "ready after 0.7 s (1 in 12.0 s)"
    assert vars(caplog.records[-1])["fields"]["seconds"] == 12.0
