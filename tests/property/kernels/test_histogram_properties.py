"""Latency histograms against sorting and searching."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sluice.kernels import histogram

DURATIONS = st.one_of(
    st.integers(1_000, 60_000_000_000),
    st.integers(1_000, 1_000_000),
    st.integers(-(2**63), 2**63 - 1),
)
VALUES = hnp.arrays(np.int64, st.integers(0, 50), elements=DURATIONS)


def oracle(values):
    """Search the published edges, which are whole nanoseconds."""
    upper = np.round(histogram.edges() * 1e9).astype(np.int64)
    buckets = np.searchsorted(upper, np.clip(values, 1_000, 60_000_000_000), side="right")
    return np.bincount(buckets, minlength=histogram.BUCKETS).astype(np.uint64)


@given(VALUES)
def test_record_many_is_a_search_of_the_edges(values):
    counts = np.zeros(histogram.BUCKETS, np.uint64)
    histogram.record_many(counts, values)
    np.testing.assert_array_equal(counts, oracle(values))


@given(VALUES, st.integers(0, 1000))
def test_record_adds_weights(values, weight):
    counts = np.ones(histogram.BUCKETS, np.uint64)
    for value in values.tolist():
        histogram.record(counts, value, weight)
    np.testing.assert_array_equal(counts, np.uint64(1) + np.uint64(weight) * oracle(values))


@given(VALUES, VALUES)
def test_merging_is_addition(first, second):
    apart, together = np.zeros((2, histogram.BUCKETS), np.uint64)
    merged = apart.copy()
    histogram.record_many(apart, first)
    histogram.record_many(merged, second)
    histogram.record_many(together, np.concatenate([first, second]))
    np.testing.assert_array_equal(apart + merged, together)


@given(
    hnp.arrays(np.int64, st.integers(1, 200), elements=st.integers(1_000, 60_000_000_000)),
    st.floats(0, 1),
)
def test_quantile_is_within_a_bucket_of_the_exact_one(values, q):
    counts = np.zeros(histogram.BUCKETS, np.uint64)
    histogram.record_many(counts, values)
    exact = np.sort(values)[max(0, int(np.ceil(q * len(values))) - 1)]
    # The widest bucket by its lower edge is the first one, from 992 to 1,024 ns.
    assert abs(histogram.quantile(counts, q) - exact) <= exact / 31


@given(hnp.arrays(np.float32, st.integers(0, 50), elements=st.floats(0, 50, width=32)))
def test_scaled_is_record_many_of_whole_nanoseconds(values):
    counts, expected = np.zeros((2, histogram.BUCKETS), np.uint64)
    histogram.record_scaled(counts, values, 1e9)
    histogram.record_many(expected, (values.astype(np.float64) * 1e9).astype(np.int64))
    np.testing.assert_array_equal(counts, expected)
