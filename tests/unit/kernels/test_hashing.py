"""Event hashes: reference numbers and statistics."""

import numpy as np
import pytest

from sluice.kernels.hashing import salt, sample_mask, splitmix64

EVENTS = 200_000


def chosen(salt, fraction, first=0):
    out = np.empty(EVENTS, bool)
    sample_mask(np.arange(first, first + EVENTS, dtype=np.uint64), salt, fraction, out)
    return out


def sigmas(count, trials, probability):
    return abs(count - trials * probability) / np.sqrt(trials * probability * (1 - probability))


@pytest.mark.parametrize(
    ("seed", "first"),
    [(0, 0xE220A8397B1DCDAF), (1234567, 6457827717110365317)],
)
def test_reference_outputs(seed, first):
    out = np.empty(1, np.uint64)
    splitmix64(np.array([seed], np.uint64), 0, out)
    assert int(out[0]) == first


@pytest.mark.parametrize("fraction", [0.001, 0.01, 1 / 3, 0.5, 0.9])
@pytest.mark.parametrize("salt", [0, 1, salt("egamma"), 2**64 - 1])
@pytest.mark.parametrize("first", [0, 2**63])
def test_fraction_within_five_sigma(fraction, salt, first):
    assert sigmas(chosen(salt, fraction, first).sum(), EVENTS, fraction) < 5


@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 2), (salt("a"), salt("b"))])
@pytest.mark.parametrize("shift", [0, 1, -1])
def test_salts_are_independent(one, other, shift):
    both = chosen(one, 0.1) & np.roll(chosen(other, 0.1), shift)
    assert sigmas(both.sum(), EVENTS, 0.01) < 5


def test_smaller_fractions_are_nested():
    assert not (chosen(5, 0.1) & ~chosen(5, 0.2)).any()


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.0, False), (-1.0, False), (np.nan, False), (1.0, True), (2, True)]
)
def test_none_and_all(fraction, expected):
    assert (chosen(3, fraction) == expected).all()


def test_largest_fraction_below_one():
    assert chosen(3, np.nextafter(1.0, 0.0)).all()


def test_salts_of_names_are_fixed_for_good():
    assert salt("") == 0xE4A6A0577479B2B4
    assert 0 <= salt("égamma") < 2**64


def test_wrong_shapes_are_refused():
    ids = np.zeros(3, np.uint64)
    with pytest.raises(ValueError, match="expected event_id"):
        splitmix64(ids, 0, np.zeros(2, np.uint64))
    with pytest.raises(ValueError, match="expected event_id"):
        sample_mask(ids, 0, 0.5, np.zeros(2, bool))
