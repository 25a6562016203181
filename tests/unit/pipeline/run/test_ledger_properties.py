"""The ledger closes exactly when every event and every nanosecond is accounted for, once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sluice.pipeline.core.batch import Outcome
from sluice.pipeline.run.ledger import CLASSES, Ledger, RunTime

COUNTS = st.integers(0, 10**12)


class Bookkeeping(RuleBasedStateMachine):
    """Random work on a ledger beside plain sums of what should be in it."""

    @initialize(now=st.integers(0, 2**62))
    def begin(self, now):
        self.ledger = Ledger()
        self.ledger.start(now)
        self.record_first_event = self.now = now
        self.state = RunTime.LIVE
        self.spent = dict.fromkeys(RunTime, 0)
        self.offered = 0
        self.settled = dict.fromkeys(Outcome, 0)

    @rule(events=COUNTS)
    def offer(self, events):
        self.ledger.offer(events)
        self.offered += events

    @rule(events=COUNTS, outcome=st.sampled_from(Outcome))
    def settle(self, events, outcome):
        self.ledger.count(outcome, events)
        self.settled[outcome] += events

    @rule(counts=st.lists(st.integers(0, 10**6), min_size=len(Outcome), max_size=len(Outcome)))
    def settle_all(self, counts):
        self.ledger.count_all(counts)
        for outcome, events in zip(Outcome, counts, strict=True):
            self.settled[outcome] += events

    @rule()
    def balance(self):
        """Give every open event an outcome, as the end of a run does."""
        missing = self.offered - sum(self.settled[outcome] for outcome in CLASSES)
        if missing >= 0:
            self.settle(missing, Outcome.FAILED)
        else:
            self.offer(-missing)

    @rule(state=st.sampled_from(RunTime), later=st.integers(0, 10**15))
    def enter(self, state, later):
        self.now += later
        self.ledger.enter_state(state, self.now)
        self.spent[self.state] += later
        self.state = state

    @rule(later=st.integers(0, 10**15))
    def stop(self, later):
        self.now += later
        self.ledger.stop(self.now)
        self.spent[self.state] += later

    @invariant()
    def closes_exactly_when_it_should(self):
        settled = sum(self.settled[outcome] for outcome in CLASSES)
        fair = self.offered == settled and self.settled[Outcome.OPEN] == 0
        assert self.ledger.closed is fair

    @invariant()
    def every_number_is_there_once(self):
        events = self.ledger.events()
        assert events.pop("offered") == self.offered
        assert events == {outcome.name.lower(): self.settled[outcome] for outcome in CLASSES}

    @invariant()
    def nanoseconds_add_up_exactly(self):
        assert self.ledger.wall_ns == self.now - self.record_first_event == sum(self.spent.values())
        seconds = self.ledger.seconds()
        assert seconds.pop("wall") == (self.now - self.record_first_event) / 1e9
        assert seconds == {state.value: ns / 1e9 for state, ns in self.spent.items()}


TestBookkeeping = Bookkeeping.TestCase


@given(st.lists(st.tuples(st.sampled_from(CLASSES), COUNTS), max_size=30), st.integers(1, 10**9))
def test_one_event_too_few_or_too_many_keeps_it_open(settlements, wrong):
    total = sum(events for _, events in settlements)
    for offered in (total + wrong, total - wrong):
        ledger = Ledger()
        ledger.offer(offered)
        for outcome, events in settlements:
            ledger.count(outcome, events)
        assert not ledger.closed
        ledger.offer(total - offered)
        assert ledger.closed


def test_an_event_left_open_keeps_it_open():
    ledger = Ledger()
    ledger.offer(1)
    ledger.count(Outcome.OPEN, 1)
    assert not ledger.closed
    ledger.count(Outcome.ACCEPTED, 1)
    assert not ledger.closed


@pytest.mark.parametrize("state", list(RunTime))
def test_the_last_state_counts_until_the_end(state):
    ledger = Ledger()
    ledger.start(100)
    ledger.enter_state(state, 130)
    ledger.enter_state(state, 180)
    assert ledger.seconds()[state.value] == (80 if state is RunTime.LIVE else 50) / 1e9
    assert ledger.seconds()["wall"] == 80 / 1e9


def test_time_that_was_taken_from_one_state_for_another_keeps_it_open():
    ledger = Ledger()
    ledger.start(100)
    ledger.enter_state(RunTime.PAUSED, 300)
    ledger.enter_state(RunTime.LIVE, 250)
    ledger.stop(400)
    assert sum(ledger.seconds().values()) == 2 * ledger.seconds()["wall"]
    assert not ledger.closed
