"""Pairs of wafers, the parts of the data, and the rows that are never trained on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.exporters.families.wafers import data, measured_files
from sluice.exporters.families.wafers.simulation.wafers import charges
from sluice.exporters.families.wafers.surrogates import pairs


def test_symmetries_keep_distances():
    turns = pairs.symmetries()
    assert len(turns) == 3
    for turn in turns:
        moved = pairs.DISTANCE[np.ix_(turn, turn)]
        np.testing.assert_allclose(moved, pairs.DISTANCE, atol=1e-4)


@pytest.mark.parametrize("kind", sorted(pairs.PAIR_KINDS))
def test_partners_are_fractions(kind):
    rng = np.random.default_rng(1)
    p = pairs.fractions(rng.integers(0, 3, (40, 48)) + np.eye(48)[:40])
    q = pairs.PAIR_KINDS[kind](p, rng)
    assert q.shape == p.shape
    assert (q > -1e-12).all()
    np.testing.assert_allclose(q.sum(1), 1.0)


@pytest.mark.modules("ot")
def test_exact_distance_is_that_of_another_implementation():
    rng = np.random.default_rng(2)
    p = pairs.fractions(charges(40, 2)[1] + 1)
    q = pairs.mixed(p, rng)
    np.testing.assert_allclose(pairs.exact(p, q), pairs.oracle(p, q), rtol=1e-9, atol=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.permutations(range(30)))
def test_an_image_is_always_on_the_same_side_of_the_split(seed, order):
    charge = charges(30, seed)[1]
    np.testing.assert_array_equal(
        measured_files.test_rows(charge)[order], measured_files.test_rows(charge[order])
    )
    np.testing.assert_array_equal(
        measured_files.image_digests(charge)[order], measured_files.image_digests(charge[order])
    )


def test_a_quarter_is_kept_for_tests():
    assert measured_files.test_rows(charges(4000, 1)[1]).mean() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.data(f"calq/{n}")) for n in sorted(measured_files.MEASURED)],
)
def test_nothing_learnt_is_tested(name):
    learnt, whole = measured_files.training_rows(name, 0), measured_files.measured(name)
    assert learnt is not None
    assert whole is not None
    kept = whole.part(np.flatnonzero(measured_files.test_rows(whole.charge)))
    assert len(learnt) + len(kept) == len(whole)
    assert not np.isin(
        measured_files.image_digests(learnt.charge), measured_files.image_digests(kept.charge)
    ).any()


def test_turned_wafers_keep_their_charge():
    sample = data.wafers(charges(50, 3)[1])
    turned = data.rotate(sample, pairs.symmetries(), 2)
    assert len(turned) == 6 * len(sample)
    np.testing.assert_array_equal(turned.total, np.tile(sample.total, 6))
