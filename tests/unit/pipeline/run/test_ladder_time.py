"""Seconds on each rung of the ladder, on a clock that is set by hand."""

from __future__ import annotations

import pytest

from sluice.pipeline.run.ladder_time import LadderTime

_S = 1_000_000_000
_BEGIN_NS = 500 * _S


@pytest.fixture
def clock(monkeypatch):
    """Return a function that sets what the clock of the module says, s after the begin."""

    def at(seconds):
        now_ns = _BEGIN_NS + int(seconds * _S)
        monkeypatch.setattr("sluice.pipeline.run.ladder_time.time.monotonic_ns", lambda: now_ns)
        return now_ns

    return at


def test_a_run_on_full_models_has_all_its_time_there(clock):
    ladder = LadderTime(3)
    clock(7)
    assert ladder.seconds(7 * _S) == [7.0, 0.0, 0.0]


def test_each_rung_has_its_own_time_and_full_models_the_rest(clock):
    ladder = LadderTime(3)
    for rung, seconds in ((1, 1), (2, 3), (0, 7), (2, 10), (1, 10.5)):
        ladder.enter(rung, clock(seconds))
    clock(12)
    # Rung 1 from 1 to 3 and from 10.5 on, rung 2 from 3 to 7 and for half a second from 10 on.
    assert ladder.seconds(12 * _S) == [4.0, 3.5, 4.5]
    assert ladder.rung == 1


def test_asking_changes_nothing(clock):
    ladder = LadderTime(2)
    ladder.enter(1, clock(2))
    clock(5)
    assert ladder.seconds(5 * _S) == ladder.seconds(5 * _S) == [2.0, 3.0]


def test_no_rung_has_negative_time(clock):
    """The run's time is read before the clock of the ladder is."""
    ladder = LadderTime(2)
    ladder.enter(1, clock(0))
    clock(3)
    assert ladder.seconds(2 * _S) == [0.0, 3.0]
