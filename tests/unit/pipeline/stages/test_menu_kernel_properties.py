"""The menu against an oracle that goes event by event, in any partition into batches."""

from __future__ import annotations

import hashlib
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.config.strict import strict_convert
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.schema import DECISION, EVENT_ID, OUTCOME, Column, Schema
from sluice.pipeline.stages.menu import PASS_THROUGH_BIT, Menu

SCHEMA = Schema((EVENT_ID, OUTCOME, DECISION, Column("score", "float32", (2,), labels=("a", "b"))))
MASK = 2**64 - 1


def menu_of(options, max_events=4096):
    menu = Menu("menu", strict_convert(options, Menu.Options, "here"))
    menu.connect(SCHEMA)
    menu.open(max_events)
    return menu


def batch_of(ids, score, outcome=None):
    events = len(ids)
    columns = {
        "event_id": np.asarray(ids, np.uint64),
        "score": np.asarray(score, np.float32).reshape(events, 2),
        "outcome": np.zeros(events, np.uint8) if outcome is None else np.asarray(outcome, np.uint8),
        "decision": np.zeros(events, np.uint64),
    }
    return EventBatch(columns, events)


def splitmix64(number):
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB & MASK
    return number ^ (number >> 31)


def drawn(event_id, name, fraction):
    """Whether an event is in the sample of a name, computed with Python's integers."""
    salt = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    if fraction >= 1:
        return True
    if fraction <= 0:
        return False
    offset = (splitmix64(salt) + 0x9E3779B97F4A7C15) & MASK
    return splitmix64((event_id + offset) & MASK) < int(fraction * 2.0**64)


def oracle(batch, paths, pass_through):
    """Decide event by event, as the documentation of the menu says it."""
    decisions, outcomes = [], []
    for event_id, (a, b), before in zip(
        batch["event_id"].tolist(), batch["score"].tolist(), batch["outcome"].tolist(), strict=True
    ):
        decision, fired = 0, False
        for bit, path in enumerate(paths):
            value, bound = {"score.a": (a, path["bound"]), "score.b": (b, path["bound"])}[
                path["of"]
            ]
            if value > bound:
                fired = True
                if drawn(event_id, f"menu/{path['name']}", 1 / path["prescale"]):
                    decision |= 1 << bit
        if drawn(event_id, "menu", pass_through):
            decision |= 1 << PASS_THROUGH_BIT
        if before != Outcome.OPEN:
            decision, outcome = 0, before
        elif decision:
            outcome = Outcome.ACCEPTED
        else:
            outcome = Outcome.PRESCALED if fired else Outcome.REJECTED
        decisions.append(decision)
        outcomes.append(int(outcome))
    return decisions, outcomes


PATHS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.text("abcdef", min_size=1, max_size=4),
            "of": st.sampled_from(["score.a", "score.b"]),
            "bound": st.sampled_from([-0.5, 0.0, 0.25, 0.75]),
            "prescale": st.sampled_from([1.0, 1.5, 2.0, 10.0, 1e6]),
        }
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda path: path["name"],
)
FRACTIONS = st.sampled_from([0.0, 0.001, 0.1, 0.5, 1.0])


def options_of(paths, pass_through):
    lines = [
        {"name": p["name"], "where": f"{p['of']} > {p['bound']}", "prescale": p["prescale"]}
        for p in paths
    ]
    return {"path": lines, "pass_through": pass_through}


@st.composite
def events(draw, max_events=40):
    count = draw(st.integers(0, max_events))
    ids = draw(st.lists(st.integers(0, MASK), min_size=count, max_size=count))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    score = rng.random((count, 2)).astype(np.float32)
    kinds = [Outcome.OPEN] * 6 + [Outcome.INVALID, Outcome.FAILED]
    outcome = [int(kinds[i]) for i in rng.integers(0, len(kinds), count)]
    return batch_of(ids, score, outcome)


@given(PATHS, FRACTIONS, events())
def test_decisions_are_those_of_the_oracle(paths, pass_through, batch):
    decided = menu_of(options_of(paths, pass_through)).process(batch)
    decisions, outcomes = oracle(batch, paths, pass_through)
    assert decided["decision"].tolist() == decisions
    assert decided["outcome"].tolist() == outcomes
    assert decided["decision"].dtype == np.uint64
    assert decided["outcome"].dtype == np.uint8


@given(PATHS, FRACTIONS, events(), st.lists(st.integers(0, 40), max_size=6))
def test_decisions_do_not_depend_on_the_partition(paths, pass_through, batch, cuts):
    menu = menu_of(options_of(paths, pass_through))
    whole = menu.process(batch)
    decision, outcome = whole["decision"].copy(), whole["outcome"].copy()
    edges = sorted({0, batch.events, *(min(cut, batch.events) for cut in cuts)})
    for start, stop in itertools.pairwise(edges):
        part = menu.process(batch.slice(start, stop))
        assert part["decision"].tolist() == decision[start:stop].tolist()
        assert part["outcome"].tolist() == outcome[start:stop].tolist()


@given(PATHS, FRACTIONS, events(max_events=15))
def test_nothing_of_the_input_is_changed(paths, pass_through, batch):
    before = {name: array.copy() for name, array in batch.columns.items()}
    for array in batch.columns.values():
        array.flags.writeable = False
    menu_of(options_of(paths, pass_through)).process(batch)
    for name, array in before.items():
        np.testing.assert_array_equal(batch[name], array)


@pytest.mark.parametrize("prescale", [2.0, 3.7, 100.0])
def test_prescales_keep_the_fraction_they_say(prescale):
    """Within five standard deviations of the binomial distribution, whatever the ids are like."""
    events = 200_000
    for ids in (np.arange(events), np.arange(events) * 3564, np.arange(events) << 40):
        menu = menu_of({"path": [{"name": "p", "where": "score.a > 0", "prescale": prescale}]},
                       events)  # fmt: skip
        decided = menu.process(batch_of(ids, np.ones((events, 2))))
        kept = int((decided["outcome"] == Outcome.ACCEPTED).sum())
        p = 1 / prescale
        assert abs(kept - events * p) < 5 * math.sqrt(events * p * (1 - p))
        assert (decided["outcome"] == Outcome.PRESCALED).sum() == events - kept


def test_pass_through_keeps_the_fraction_it_says_independently_of_paths():
    events = 200_000
    options = {"path": [{"name": "p", "where": "score.a > 0.5", "prescale": 2}],
               "pass_through": 0.1}  # fmt: skip
    score = np.random.default_rng(1).random((events, 2))
    decided = menu_of(options, events).process(batch_of(np.arange(events), score))
    passed = (decided["decision"] >> np.uint64(63)).astype(bool)
    fired = (decided["decision"] & np.uint64(1)).astype(bool)
    assert abs(passed.sum() - 20_000) < 5 * math.sqrt(events * 0.1 * 0.9)
    both = (passed & fired).sum() / events
    assert both == pytest.approx(passed.mean() * fired.mean(), abs=0.002)
    assert ((decided["outcome"] == Outcome.ACCEPTED) == (passed | fired)).all()


def test_menus_that_cannot_be():
    for options, word in (
        ({"path": [{"name": "p", "where": "score.a > 0", "prescale": 0.5}]}, "prescale"),
        ({"path": [{"name": "p", "where": "score.a > 0"}] * 2}, "different names"),
        ({"path": [{"name": "p"}]}, "where"),
        ({"path": [{"name": "p", "were": "score.a > 0", "where": ""}]}, "did you mean 'where'?"),
        ({"path": [{"name": f"p{i}", "where": "score.a > 0"} for i in range(64)]}, "at most 63"),
        ({"path": [], "pass_through": 1.5}, "pass_through"),
    ):
        with pytest.raises(ConfigError) as caught:
            menu_of(options)
        assert word in str(caught.value)


def test_sixty_three_paths_each_have_a_bit():
    paths = [{"name": f"p{i}", "where": "score.a > 0"} for i in range(63)]
    decided = menu_of({"path": paths, "pass_through": 1.0}).process(batch_of([1], [[1, 1]]))
    assert decided["decision"].tolist() == [MASK]
