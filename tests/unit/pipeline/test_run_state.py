"""States of a run: the ways there are, the first cause, and being asked twice."""

from __future__ import annotations

import itertools
import threading

import pytest

from sluice.pipeline.errors import RunError
from sluice.pipeline.state import Control, State

WAYS = {
    ("INITIAL", "CONFIGURED"),
    ("CONFIGURED", "RUNNING"),
    ("CONFIGURED", "STOPPED"),
    ("RUNNING", "PAUSED"),
    ("RUNNING", "STOPPED"),
    ("PAUSED", "RUNNING"),
    ("PAUSED", "STOPPED"),
    ("STOPPED", "CONFIGURED"),
    *((state.value, "ERROR") for state in State if state is not State.ERROR),
}


@pytest.mark.parametrize(("here", "there"), list(itertools.product(State, State)))
def test_ways(here, there):
    control = Control()
    control.state = here
    if (here.value, there.value) in WAYS:
        control.go(there)
        assert control.state is there
    else:
        with pytest.raises(RunError, match=f"no way from {here.value} to {there.value}"):
            control.go(there)
        assert control.state is here


@pytest.mark.parametrize("here", list(State))
def test_failure_from_anywhere_keeps_the_first_cause(here):
    control = Control()
    control.state = here
    control.fail("the disk is full")
    control.fail("and so the sink is gone")
    assert control.state is State.ERROR
    assert control.cause == "the disk is full"


def test_being_asked_to_stop_once_and_twice():
    control = Control()
    assert not control.stopping
    assert not control.aborting
    control.ask_to_stop()
    assert control.stopping
    assert not control.aborting
    control.ask_to_stop()
    assert control.aborting


def test_a_wish_from_another_thread_is_seen():
    control = Control()
    thread = threading.Thread(target=control.ask_to_stop)
    thread.start()
    thread.join()
    assert control.stopping
