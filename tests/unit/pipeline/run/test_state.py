"""States of a run: the ways there are, the first cause, and being asked twice."""

from __future__ import annotations

import itertools
import threading

import pytest

from sluice.pipeline.core.errors import RunError
from sluice.pipeline.run.state import RunState, State

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
def test_transitions(here, there):
    control = RunState()
    control.state = here
    if (here.value, there.value) in WAYS:
        control.transition(there)
        assert control.state is there
    else:
        with pytest.raises(RunError, match=f"no transition from {here.value} to {there.value}"):
            control.transition(there)
        assert control.state is here


@pytest.mark.parametrize("here", list(State))
def test_failure_from_anywhere_keeps_the_first_cause(here):
    control = RunState()
    control.state = here
    control.fail("the disk is full")
    control.fail("and so the sink is gone")
    assert control.state is State.ERROR
    assert control.cause == "the disk is full"


def test_being_asked_to_stop_once_and_twice():
    control = RunState()
    assert not control.stopping
    assert not control.aborting
    control.request_stop()
    assert control.stopping
    assert not control.aborting
    control.request_stop()
    assert control.aborting


def test_a_request_from_another_thread_is_seen():
    control = RunState()
    thread = threading.Thread(target=control.request_stop)
    thread.start()
    thread.join()
    assert control.stopping


def running():
    control = RunState()
    control.transition(State.CONFIGURED)
    control.transition(State.RUNNING)
    return control


def test_pause_and_resume_as_often_as_one_likes():
    control = running()
    for _ in range(2):
        control.pause()
        assert (control.state, control.paused) == (State.PAUSED, True)
    for _ in range(2):
        control.resume()
        assert (control.state, control.paused, control.holds) == (State.RUNNING, False, {})


@pytest.mark.parametrize("state", [s for s in State if s not in (State.RUNNING, State.PAUSED)])
def test_only_a_run_can_be_paused_and_resumed(state):
    control = RunState()
    control.state = state
    for act, word in ((control.pause, "pause"), (control.resume, "resume")):
        with pytest.raises(RunError, match=f"cannot {word} while {state.value}"):
            act()
    assert (control.state, control.holds) == (state, {})


def test_a_run_goes_on_when_the_last_hold_is_gone():
    control = running()
    control.add_hold("disk full", "no space left on /data")
    control.pause()
    control.remove_hold("disk full")
    assert control.paused
    control.add_hold("disk full", "no space left on /data")
    with pytest.raises(RunError, match="still PAUSED: disk full: no space left on /data"):
        control.resume()
    assert control.paused
    control.remove_hold("disk full")
    assert control.state is State.RUNNING
    control.remove_hold("disk full")
    assert control.state is State.RUNNING


def test_stopping_lifts_the_users_hold_and_no_other():
    control = running()
    control.pause()
    control.request_stop()
    assert (control.state, control.stopping) == (State.RUNNING, True)
    with pytest.raises(RunError, match="cannot pause while draining"):
        control.pause()
    control = running()
    control.add_hold("disk full", "no space")
    control.pause()
    control.request_stop()
    assert control.paused
    assert list(control.holds) == ["disk full"]
