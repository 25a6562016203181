"""Measures of a classifier, and their spread between trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def auc(score: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Return the area under the curve; ties count half.

    Parameters
    ----------
    score
        (N,), higher for positives; not NaN.
    positive
        (N,), at least one true and one false.

    Examples
    --------
    >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    _, where, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[where]
    wins = int(positive.sum())
    return float((rank[positive].sum() - wins * (wins + 1) / 2) / (wins * (len(score) - wins)))


def roc(score: NDArray[Any], positive: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the shares of negatives and of positives that pass, as a cut comes down.

    Parameters
    ----------
    score
        (N,), higher for positives; not NaN.
    positive
        (N,).

    Returns
    -------
    tuple of ndarray
        Each (cuts + 1,), from 0 to 1, or 0 throughout where there is none; ties pass together.

    Examples
    --------
    >>> score = np.array([0.1, 0.4, 0.4, 0.8])
    >>> for passed in roc(score, np.array([False, False, True, True])):
    ...     print(passed)
    [0.  0.  0.5 1. ]
    [0.  0.5 1.  1. ]
    """
    values, where = np.unique(-score, return_inverse=True)
    none = np.zeros(1)
    counts = [np.bincount(where[rows], minlength=len(values)) for rows in (~positive, positive)]
    losses, wins = (np.concatenate([none, np.cumsum(one) / max(1, one.sum())]) for one in counts)
    return losses, wins


def mean_and_spread(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return each metric's mean, and its standard deviation as ``<name>_spread`` where it has one.

    Parameters
    ----------
    runs
        The same metrics of each training.

    Examples
    --------
    >>> mean_and_spread([{"auc": 0.5}, {"auc": 0.75}])
    {'auc': 0.625, 'auc_spread': 0.1767766952966369}
    """
    found: dict[str, float] = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        found[name] = float(np.mean(values))
        if len(values) > 1:
            found[f"{name}_spread"] = float(np.std(values, ddof=1))
    return found
