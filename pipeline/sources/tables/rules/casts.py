"""Casts of numbers and times to the dtype of a column; values that do not fit are named."""

from __future__ import annotations

import numpy as np

from sluice.pipeline.core.schema import Array

#: Whole numbers up to here are exact in float64.
_EXACT = 1 << 53
_NONE = np.empty(0, np.int64)


def cast_values(values: Array, dtype: str, time_ns: int = 0) -> tuple[Array, Array]:
    """Return numbers in another dtype.

    Parameters
    ----------
    values
        Numbers of any dtype, (n,).
    dtype
        Dtype to return.
    time_ns
        Unit of the numbers, ns, if they are times: these are returned in ns. 0 if they are not.

    Returns
    -------
    tuple of arrays
        The numbers, (n,), and the indices of those that do not fit into the dtype. A float dtype
        takes any number; what is too large becomes infinite.

    Examples
    --------
    >>> cast_values(np.array([1, 300, 2]), "uint8")[1].tolist()
    [1]
    >>> cast_values(np.array([1.5]), "int64", 1_000_000_000)[0].tolist()
    [1500000000]
    """
    bad = _NONE
    if time_ns:
        values, bad = _in_ns(values, time_ns)
    wanted = np.dtype(dtype)
    if wanted.kind == "f" or np.can_cast(values.dtype, wanted):
        with np.errstate(over="ignore", invalid="ignore"):  # the stages refuse what is infinite
            return values.astype(wanted, copy=False), bad
    if values.dtype.kind == "f":
        values, fractions = _whole(values)
        bad = np.union1d(bad, fractions)
    limits = np.iinfo(wanted)
    outside = np.flatnonzero((values < limits.min) | (values > limits.max))
    return values.astype(wanted), np.union1d(bad, outside) if len(outside) else bad


def _in_ns(values: Array, unit: int) -> tuple[Array, Array]:
    """Return times in ns, int64, and the indices of those beyond its range."""
    limit = np.iinfo(np.int64).max // unit
    if values.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            times = np.rint(values.astype(np.float64) * unit)
            fits = np.abs(times) < float(np.iinfo(np.int64).max)
        return np.where(fits, times, 0).astype(np.int64), np.flatnonzero(~fits)
    fits = (values <= limit) & (values >= -limit)
    return np.where(fits, values, 0).astype(np.int64) * unit, np.flatnonzero(~fits)


def _whole(values: Array) -> tuple[Array, Array]:
    """Return floating-point numbers as int64, and the indices of those that are not whole."""
    with np.errstate(invalid="ignore"):
        fits = (np.abs(values) <= _EXACT) & (values == np.floor(values))
    return np.where(fits, values, 0).astype(np.int64), np.flatnonzero(~fits)
