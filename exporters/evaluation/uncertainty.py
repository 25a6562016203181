"""Standard errors of figures: how much they would differ on other events of the same kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .classifier import auc

#: Samples drawn for a standard error, and the seed of the draws.
DRAWS, _SEED = 100, 1


def bootstrap_errors(measure: Callable[..., Mapping[str, float]], *sizes: int) -> dict[str, float]:
    """Return the standard error of each figure as ``<name>_error``.

    Events are drawn with replacement, as many as there are, and the figures measured on them,
    `DRAWS` times; the error is the standard deviation. The draws are the same in each call.

    Parameters
    ----------
    measure
        Function of the (n,) rows that are drawn, an array for each of `sizes`, to figures by name.
    sizes
        Number of events of each sample that is drawn from by itself.

    References
    ----------
    B. Efron, Ann. Statist. 7 (1979) 1.

    Examples
    --------
    >>> events = np.random.default_rng(0).normal(size=10_000)
    >>> found = bootstrap_errors(lambda rows: {"mean": float(events[rows].mean())}, len(events))
    >>> abs(found["mean_error"] - 0.01) < 0.002
    True
    """
    rng = np.random.default_rng(_SEED)
    draws = [measure(*(rng.integers(n, size=n) for n in sizes)) for _ in range(DRAWS)]
    return {
        f"{name}_error": float(np.std([draw[name] for draw in draws], ddof=1)) for name in draws[0]
    }


def auc_error(score: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Return the standard error of an area under the curve, from the events' number.

    Parameters
    ----------
    score
        (N,), higher for positives; not NaN.
    positive
        (N,), at least one true and one false.

    References
    ----------
    J. Hanley and B. McNeil, Radiology 143 (1982) 29.
    """
    area, wins = auc(score, positive), int(positive.sum())
    losses = len(positive) - wins
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (wins - 1) * (q1 - area**2) + (losses - 1) * (q2 - area**2)
    return float(np.sqrt(variance / (wins * losses)))


def share_error(share: float, events: int) -> float:
    """Return the standard error of a share of so many events."""
    return float(np.sqrt(share * (1.0 - share) / events))
