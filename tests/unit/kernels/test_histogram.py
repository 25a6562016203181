"""Latency histograms on literal numbers."""

import math

import numpy as np
import pytest

from sluice.kernels import histogram


@pytest.fixture
def counts():
    return np.zeros(histogram.BUCKETS, np.uint64)


def test_range_and_width():
    upper = histogram.edges()
    assert upper.shape == (histogram.BUCKETS,) == (826,)
    assert upper[0] <= 1.01e-6
    assert 60 <= upper[-1] < 62
    assert (np.diff(upper) / upper[:-1]).max() <= 1 / 32 + 1e-12


@pytest.mark.parametrize(
    ("value_ns", "bucket"),
    [
        *[(-(2**63), 0), (0, 0), (1_000, 0), (1_007, 0), (1_008, 1), (1_023, 1), (1_024, 2)],
        *[(60_000_000_000, 825), (2**63 - 1, 825)],
    ],
)
def test_bucket_of(value_ns, bucket):
    assert histogram.bucket_of(value_ns) == bucket


def test_empty_histogram_has_quantile_zero(counts):
    assert histogram.quantile(counts, 0.99) == 0.0


def test_quantile_is_interpolated(counts):
    histogram.record(counts, 1_000_000, 4)
    bucket = histogram.bucket_of(1_000_000)
    lower, upper = histogram.edges()[bucket - 1 : bucket + 1] * 1e9
    assert counts.sum() == 4
    assert histogram.quantile(counts, 0.5) == pytest.approx((lower + upper) / 2)
    assert histogram.quantile(counts, 0.0) == pytest.approx(lower)
    assert histogram.quantile(counts, 7.0) == pytest.approx(upper)


def test_ages(counts):
    expected = counts.copy()
    histogram.record_ages(counts, 5_000_000, np.array([0, 4_000_000, 6_000_000]))
    for age in (5_000_000, 1_000_000, -1_000_000):
        histogram.record(expected, age, 1)
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("now_ns", [0, 5_000_000, 1 << 62])
def test_times_that_cannot_be_are_counted_within_bounds(counts, now_ns):
    """A clock that is wrong: far in the future, far in the past, and none at all."""
    wrong = [2**63 - 1, -(2**63), -1, 0, now_ns + 1]
    starts = np.array([*wrong, now_ns - 2_000_000], np.int64)
    oldest, total = histogram.record_ages(counts, now_ns, starts)
    ages = [min(max(0, now_ns - int(start)), histogram.LARGEST_AGE_NS) for start in starts]
    assert oldest == max(ages) == histogram.LARGEST_AGE_NS
    assert total == sum(ages)
    assert counts.sum() == len(starts)


def test_ages_of_stamps_of_another_clock_are_left_out(counts):
    now_ns = 1_790_000_000_000_000_000
    ages = [5_000_000, 2_000, 0, -999_999_999, histogram.LARGEST_AGE_NS]
    others = [-1_000_000_001, histogram.LARGEST_AGE_NS + 1, now_ns, now_ns - 7, 3 * now_ns]
    starts = np.array([now_ns - age for age in ages + others], np.int64)
    starts = np.append(starts, [2**63 - 1, -(2**63)])
    oldest, total = histogram.record_stamped_ages(counts, now_ns, starts)
    expected = np.zeros_like(counts)
    for age in ages:
        histogram.record(expected, max(0, age), 1)
    np.testing.assert_array_equal(counts, expected)
    assert oldest == histogram.LARGEST_AGE_NS
    assert total == sum(max(0, age) for age in ages)


def test_the_sum_of_ages_does_not_overflow(counts):
    starts = np.full(1 << 20, -(2**63))
    oldest, total = histogram.record_ages(counts, 1 << 62, starts)
    assert oldest == histogram.LARGEST_AGE_NS
    assert 1 << 62 <= total < 1 << 63
    assert counts.sum() == 1 << 20


def test_scaled_loses_nothing(counts):
    values = [1.0, 13.7, 0.0, -1.0, -math.inf, math.inf, math.nan, 3e38]
    histogram.record_scaled(counts, np.array(values, np.float32), 1e9)
    assert counts[0] == 3
    assert counts[-1] == 3
    assert counts[histogram.bucket_of(10**9)] == 1
    assert counts.sum() == len(values)


def test_wrong_length_is_refused(counts):
    short, values = counts[1:].copy(), np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="BUCKETS"):
        histogram.record(short, 1, 1)
    with pytest.raises(ValueError, match="BUCKETS"):
        histogram.record_many(short, values)
    with pytest.raises(ValueError, match="BUCKETS"):
        histogram.record_ages(short, 0, values)
    with pytest.raises(ValueError, match="BUCKETS"):
        histogram.record_stamped_ages(short, 0, values)
    with pytest.raises(ValueError, match="BUCKETS"):
        histogram.record_scaled(short, np.zeros(1, np.float32), 1.0)
    with pytest.raises(ValueError, match="BUCKETS"):
        histogram.quantile(short, 0.5)
