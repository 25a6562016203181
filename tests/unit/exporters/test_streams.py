"""Random streams stay what they are: recordings and training sets are named by their seeds."""

import hashlib

import numpy as np
import pytest

from sluice.exporters.families.base import get
from sluice.exporters.simulation.random_streams import begin, normal, poisson, uniform

#: Of 300 events of seed 7, from event 11 on: the detector's column and its bytes' SHA-256.
PINNED = {
    "antihydrogen": ("strips", "e02a1de4126454a6"),
    "wafers": ("words", "fe514662450daf02"),
}


def stream(seed, number):
    state = np.empty(1, np.uint64)
    begin(state, seed, number)
    return state


@pytest.mark.parametrize("family", PINNED)
def test_a_seed_gives_the_events_that_it_always_gave(family):
    column, digest = PINNED[family]
    events = get(family).block(300, 7, 11)[column]
    assert hashlib.sha256(events.tobytes()).hexdigest()[:16] == digest


def test_splitmix_is_the_published_generator():
    # The first outputs from state 0, as its authors print them.
    state = np.zeros(1, np.uint64)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [uniform(state) for _ in range(3)] == [((n >> 11) + 1) * 2.0**-53 for n in expected]


def test_draws_are_of_their_distributions():
    state = stream(3, 0)
    even = np.array([uniform(state) for _ in range(20_000)])
    bell = np.array([normal(state) for _ in range(20_000)])
    counts = np.array([poisson(state, 1.7) for _ in range(20_000)])
    assert 0 < even.min() < 1e-3 < 1 - 1e-3 < even.max() <= 1
    assert abs(even.mean() - 0.5) < 0.01
    assert abs(bell.mean()) < 0.03
    assert abs(bell.std() - 1) < 0.03
    assert abs(counts.mean() - 1.7) < 0.05
    assert abs(counts.var() - 1.7) < 0.1


def test_neighbours_share_nothing():
    firsts = [uniform(stream(seed, number)) for seed in range(40) for number in range(40)]
    assert len(set(firsts)) == 1_600
    assert abs(np.corrcoef(firsts[:-1], firsts[1:])[0, 1]) < 0.08
