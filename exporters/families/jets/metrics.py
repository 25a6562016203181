"""Metrics of the jets' nets: rejection, sculpting, significance of a discovery."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Bins of the jet mass, GeV.
EDGES = np.arange(50.0, 300.1, 5.0)
#: Signal efficiency at which the tables give rejections.
EFFICIENCY = 0.5


def threshold(signal: Array, efficiency: float = EFFICIENCY) -> float:
    """Return the score that this share of the signal exceeds."""
    return float(np.quantile(signal, 1.0 - efficiency))


def rejection(signal: Array, background: Array, efficiency: float = EFFICIENCY) -> float:
    """Return the number of background jets for each that passes."""
    passed = int((background > threshold(signal, efficiency)).sum())
    return len(background) / max(1, passed)


def divergence(p: Array, q: Array) -> float:
    """Return the Jensen-Shannon divergence of two histograms, base 2.

    Examples
    --------
    >>> divergence(np.array([1.0, 0.0]), np.array([0.0, 2.0]))
    1.0
    """
    p, q = p / p.sum(), q / q.sum()
    middle = 0.5 * (p + q)
    found = 0.0
    for one in (p, q):
        some = one > 0
        found += 0.5 * float((one[some] * np.log2(one[some] / middle[some])).sum())
    return found


def sculpting(score: Array, mass: Array, cut: float) -> float:
    """Return the divergence between the masses of jets above a cut and of those below."""
    above, below = (np.histogram(mass[rows], EDGES)[0] for rows in (score > cut, score <= cut))
    return divergence(above, below) if above.any() and below.any() else 0.0


def min_sculpting(score: Array, mass: Array, cut: float, rng: np.random.Generator) -> float:
    """Return the divergence of a cut independent of the mass, which is that of finite samples.

    The scores are shuffled: what is left is the noise of histograms with so many jets.
    """
    return float(np.mean([sculpting(rng.permutation(score), mass, cut) for _ in range(8)]))


def significance(signal: Array, background: Array, uncertainty: float) -> float:
    """Return Z of a signal over a background whose total is known to a relative uncertainty.

    For one bin it is S / √(B + (σ B)²). With more, the bins' covariance is that of counting plus
    that of the common factor, and bins without signal constrain the factor.

    Parameters
    ----------
    signal, background
        (K,) expected counts.
    uncertainty
        σ, of the background's normalisation.

    Examples
    --------
    >>> one = np.array([30.0]), np.array([100.0])
    >>> round(significance(*one, 0.0), 6), round(significance(*one, 0.2), 6)
    (3.0, 1.341641)
    """
    some = background > 0
    s, b = signal[some], background[some]
    lost = uncertainty**2 * s.sum() ** 2 / (1.0 + uncertainty**2 * b.sum())
    return float(np.sqrt(max((s**2 / b).sum() - lost, 0.0)))
