"""Log-linear histograms: 826 buckets from 1 us to 60 s, each at most 3.2 % wide.

Every octave is cut into 32 equal buckets, so the bucket of a number is the top of its
floating-point pattern. What lies below or above is counted in the first or last bucket. Histograms
merge by addition. A histogram of another positive quantity uses the same buckets through
`record_scaled`. Counts of another length than BUCKETS are refused with a `ValueError`.
"""

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import device_function, input_array, kernel, output_array, scalar

SMALLEST_NS = 1_000
"""Durations below this are counted in the first bucket."""
LARGEST_NS = 60_000_000_000
"""Durations above this are counted in the last bucket."""

LARGEST_AGE_NS = 1 << 53
"""Ages above this, 104 days, count as this: they come from a clock that is wrong."""

_FIRST = int(np.float64(SMALLEST_NS).view(np.int64)) >> 47
LARGEST_AHEAD_NS = 1_000_000_000
"""Starts later than now by more than this, 1 s, are of another clock, such as TAI."""

BUCKETS = (int(np.float64(LARGEST_NS).view(np.int64)) >> 47) - _FIRST + 1
"""Number of buckets."""


@device_function
def _lower_edge(bucket: int) -> float:
    lower: float = np.int64((bucket + _FIRST) << 47).view(np.float64)
    return lower


@device_function
def _bucket(value_ns: int) -> int:
    clamped = min(max(value_ns, SMALLEST_NS), LARGEST_NS)
    return int((np.float64(clamped).view(np.int64) >> 47) - _FIRST)


@kernel((scalar("i8"),), hold_gil=True)
def bucket_of(value_ns: int) -> int:
    """Return the bucket, 0 to BUCKETS - 1, of a duration in nanoseconds."""
    return _bucket(value_ns)


def edges() -> NDArray[np.float64]:
    """Return the upper edges of the buckets in seconds (exclusive), float64 (BUCKETS,), ascending.

    Examples
    --------
    >>> upper = edges()
    >>> bool(upper[bucket_of(2_000_000) - 1] <= 0.002 < upper[bucket_of(2_000_000)])
    True
    """
    patterns = (np.arange(BUCKETS, dtype=np.int64) + (_FIRST + 1)) << 47
    return patterns.view(np.float64) * 1e-9


@kernel((output_array("u8", 1), scalar("i8"), scalar("i8")), hold_gil=True)
def record(counts: NDArray[np.uint64], value_ns: int, weight: int) -> None:
    """Count one duration `weight` times.

    Parameters
    ----------
    counts : uint64 array, shape (BUCKETS,)
        Added to.
    value_ns : int
        Nanoseconds.
    weight : int
        Amount to add, for example the number of events of a batch; not negative.
    """
    if counts.size != BUCKETS:
        raise ValueError("record: expected counts (BUCKETS,)")
    counts[_bucket(value_ns)] += np.uint64(weight)


@kernel((output_array("u8", 1), input_array("i8", 1)), hold_gil=True)
def record_many(counts: NDArray[np.uint64], values_ns: NDArray[np.int64]) -> None:
    """Count many durations.

    Parameters
    ----------
    counts : uint64 array, shape (BUCKETS,)
        Added to.
    values_ns : int64 array, shape (N,)
        Nanoseconds.
    """
    if counts.size != BUCKETS:
        raise ValueError("record_many: expected counts (BUCKETS,)")
    for i in range(values_ns.size):
        counts[_bucket(values_ns[i])] += np.uint64(1)


@kernel((output_array("u8", 1), scalar("i8"), input_array("i8", 1)), hold_gil=True)
def record_ages(
    counts: NDArray[np.uint64], now_ns: int, start_ns: NDArray[np.int64]
) -> tuple[int, int]:
    """Count the time from each start until now, between 0 and `LARGEST_AGE_NS`.

    Parameters
    ----------
    counts : uint64 array, shape (BUCKETS,)
        Added to.
    now_ns : int
        Nanoseconds.
    start_ns : int64 array, shape (N,)
        Nanoseconds of the same clock as `now_ns`.

    Returns
    -------
    oldest, total : int
        The greatest age, and the sum of all, nanoseconds; the sum is at most some 2^62.

    Raises
    ------
    ValueError
        If `counts` has another length.
    """
    if counts.size != BUCKETS:
        raise ValueError("record_ages: expected counts (BUCKETS,)")
    oldest, total = 0, 0
    before, bucket = -1, 0
    for i in range(start_ns.size):
        start = min(max(int(start_ns[i]), now_ns - LARGEST_AGE_NS), now_ns)
        age = now_ns - start
        if age != before:  # events that came in one message share their start
            before, bucket = age, _bucket(age)
            oldest = max(oldest, age)
        total += age if total < 1 << 62 else 0
        counts[bucket] += np.uint64(1)
    return oldest, total


@kernel((output_array("u8", 1), scalar("i8"), input_array("i8", 1)), hold_gil=True)
def record_stamped_ages(
    counts: NDArray[np.uint64], now_ns: int, start_ns: NDArray[np.int64]
) -> tuple[int, int]:
    """Count the time from each start until now where the start is of the same clock.

    A start is of another clock if it is more than `LARGEST_AGE_NS` before or `LARGEST_AHEAD_NS`
    after `now_ns`: it is not counted. One that is less ahead has age 0.

    Parameters
    ----------
    counts : uint64 array, shape (BUCKETS,)
        Added to.
    now_ns : int
        Nanoseconds.
    start_ns : int64 array, shape (N,)
        Nanoseconds.

    Returns
    -------
    oldest, total : int
        The greatest age, and the sum of all, nanoseconds; the sum is at most some 2^62.

    Raises
    ------
    ValueError
        If `counts` has another length.
    """
    if counts.size != BUCKETS:
        raise ValueError("record_stamped_ages: expected counts (BUCKETS,)")
    oldest, total = 0, 0
    before, bucket = -1, 0
    for i in range(start_ns.size):
        start = start_ns[i]
        if start < now_ns - LARGEST_AGE_NS or start > now_ns + LARGEST_AHEAD_NS:
            continue
        age = max(0, now_ns - start)
        if age != before:  # events that came in one message share their start
            before, bucket = age, _bucket(age)
            oldest = max(oldest, age)
        total += age if total < 1 << 62 else 0
        counts[bucket] += np.uint64(1)
    return oldest, total


@kernel((output_array("u8", 1), input_array("f4", 1), scalar("f8")), hold_gil=True)
def record_scaled(counts: NDArray[np.uint64], values: NDArray[np.float32], scale: float) -> None:
    """Count numbers that are not durations, each as `value * scale` nanoseconds.

    With scale = 1e9 the buckets span 1e-6 to 60 in the unit of the quantity, and `edges` and
    `quantile(...) / scale` are in that unit: right for an Earth mover's distance, which ends at
    13.8.

    Parameters
    ----------
    counts : uint64 array, shape (BUCKETS,)
        Added to.
    values : float32 array, shape (N,)
        Negative numbers count in the first bucket, NaN in the last, so that none is lost.
    scale : float
        Nanoseconds per unit.
    """
    if counts.size != BUCKETS:
        raise ValueError("record_scaled: expected counts (BUCKETS,)")
    for i in range(values.size):
        scaled = np.float64(values[i]) * scale
        # Clipped as a float: turning NaN or infinity into an integer is undefined.
        clipped = max(scaled, 0.0) if scaled < LARGEST_NS else float(LARGEST_NS)
        counts[_bucket(int(clipped))] += np.uint64(1)


@kernel((input_array("u8", 1), scalar("f8")), hold_gil=True)
def quantile(counts: NDArray[np.uint64], q: float) -> float:
    """Return the q-quantile in nanoseconds, interpolated inside its bucket; 0 if all is empty.

    Parameters
    ----------
    counts : uint64 array, shape (BUCKETS,)
    q : float
        0 to 1; numbers outside are clipped.

    Returns
    -------
    float
        Nanoseconds, within one bucket width (3.2 %) of the exact quantile.
    """
    if counts.size != BUCKETS:
        raise ValueError("quantile: expected counts (BUCKETS,)")
    total = np.float64(counts.sum())
    rank = min(max(q, 0.0), 1.0) * total
    below = 0.0
    for bucket in range(BUCKETS):
        here = np.float64(counts[bucket])
        if here > 0 and below + here >= rank:
            lower = _lower_edge(bucket)
            return lower + (_lower_edge(bucket + 1) - lower) * (rank - below) / here
        below += here
    return 0.0
