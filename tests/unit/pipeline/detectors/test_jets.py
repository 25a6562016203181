"""The jets' stage: ragged candidates to observables; what is unsound is set aside, not guessed."""

import numpy as np

from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import OUTCOME, Schema
from sluice.pipeline.detectors.jets import ETA, PHI, PT, STAGES, WEIGHT

Observe = STAGES["observe"]


def events(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        size = int(rng.integers(0, 60))
        columns = (rng.exponential(10.0, size), rng.normal(0, 0.4, size), rng.normal(1, 0.4, size))
        found.append(np.stack([*columns, np.ones(size)], -1).astype(np.float32))
    return found


def batch(lists: list[np.ndarray], *, weights: bool = False) -> EventBatch:
    names = ["pt", "eta", "phi", *(["weight"] if weights else [])]
    columns = {n: Ragged.of([one[:, k] for one in lists], "float32") for k, n in enumerate(names)}
    outcome = np.zeros(len(lists), np.uint8)
    return EventBatch({**columns, "outcome": outcome}, len(lists))


def processed(given: EventBatch, *, weights: bool = False) -> EventBatch:
    stage = Observe("observe", Observe.Options())
    stage.connect(Schema((PT, ETA, PHI, OUTCOME, *([WEIGHT] if weights else []))))
    stage.open(given.events)
    found = stage.process(given)
    stage.close()
    return found


def test_parts_of_a_batch_are_processed_as_the_whole():
    whole = batch(events(40, 1))
    found = processed(whole)
    part = processed(whole.slice(17, 29))
    np.testing.assert_array_equal(part["observables"], found["observables"][17:29])
    np.testing.assert_array_equal(part["jet"], found["jet"][17:29])
    assert found["jet"][:, 0].max() > 100.0


def test_candidates_of_no_weight_are_not_there_and_others_count_by_it():
    lists = events(20, 2)
    rng = np.random.default_rng(3)
    heavy = []
    for one in lists:
        one[:, 3] = rng.choice([0.0, 0.5, 1.0], len(one))
        scaled = one[one[:, 3] > 0].copy()
        scaled[:, 0] *= scaled[:, 3]
        heavy.append(scaled)
    weighted = processed(batch(lists, weights=True), weights=True)
    np.testing.assert_array_equal(weighted["observables"], processed(batch(heavy))["observables"])
    unweighted = processed(batch(lists))
    assert (unweighted["jet"][:, 0] >= weighted["jet"][:, 0]).all()


def test_unsound_events_are_invalid_and_others_stay_what_they_are():
    lists = [one for one in events(30, 4) if len(one) > 3][:10]
    clean = processed(batch(lists))
    lists[2][1, 0] = np.inf
    lists[5][0, 0] = -3.0
    given = batch(lists)
    short = Ragged.of([one[: len(one) - (n == 7), 1] for n, one in enumerate(lists)], "float32")
    found = processed(given.with_columns(eta=short))
    invalid = np.flatnonzero(found["outcome"] == Outcome.INVALID)
    assert invalid.tolist() == [2, 5, 7]
    reasons = {flag.reason: flag.rows for flag in found.flags}
    assert reasons == {
        "candidates' lists differ in length": [7],
        "candidate is not finite": [2],
        "candidate's pt is negative": [5],
    }
    others = np.setdiff1d(np.arange(10), invalid)
    np.testing.assert_array_equal(found["observables"][others], clean["observables"][others])
    assert not found["observables"][invalid].any()


def test_an_event_without_candidates_has_zeros():
    found = processed(batch([np.empty((0, 4), np.float32)] * 3))
    assert not found["observables"].any()
    assert not found["outcome"].any()
