"""Counters against NumPy, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sluice.kernels.counting import ACCEPTED, OPEN, accept_open, count_bits, count_outcomes
from sluice.pipeline.core.batch import Outcome

LENGTH = st.integers(0, 100)
DECISIONS = st.one_of(st.just(0), st.integers(0, 1023), st.integers(0, 2**64 - 1))


@given(hnp.arrays(np.uint8, LENGTH, elements=st.integers(0, 7)))
def test_count_outcomes_is_bincount(outcome):
    counts = np.arange(8)
    count_outcomes(outcome, counts)
    np.testing.assert_array_equal(counts, np.arange(8) + np.bincount(outcome, minlength=8))


@given(hnp.arrays(np.uint64, LENGTH, elements=DECISIONS))
def test_count_bits_counts_each_bit(decision):
    counts = np.arange(64)
    count_bits(decision, counts)
    expected = [sum(word >> bit & 1 for word in decision.tolist()) for bit in range(64)]
    np.testing.assert_array_equal(counts, np.arange(64) + expected)


@given(hnp.arrays(np.uint8, LENGTH, elements=st.sampled_from(list(Outcome))))
def test_accept_open_changes_open_events_only(outcome):
    accepted = np.full(len(outcome), 99, np.uint8)
    accept_open(outcome, accepted)
    for before, after in zip(outcome.tolist(), accepted.tolist(), strict=True):
        assert after == (Outcome.ACCEPTED if before == Outcome.OPEN else before)


def test_kernel_and_pipeline_number_outcomes_alike():
    assert (OPEN, ACCEPTED) == (Outcome.OPEN, Outcome.ACCEPTED)
    blank = np.zeros(1, np.uint8)  # as the chain begins
    assert blank[0] == Outcome.OPEN


def test_unknown_outcome_is_refused_and_nothing_counted():
    counts = np.zeros(8, np.int64)
    with pytest.raises(ValueError, match="8 or more"):
        count_outcomes(np.array([1, 8], np.uint8), counts)
    assert not counts.any()


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match="expected counts"):
        count_outcomes(np.zeros(1, np.uint8), np.zeros(7, np.int64))
    with pytest.raises(ValueError, match="expected counts"):
        count_bits(np.zeros(1, np.uint64), np.zeros(63, np.int64))
    with pytest.raises(ValueError, match="equal lengths"):
        accept_open(np.zeros(2, np.uint8), np.zeros(1, np.uint8))
