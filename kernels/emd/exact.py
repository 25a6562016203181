"""Exact Earth mover's distance: checked entry points around the kernels."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.wafer.geometry import DISTANCE

from .network_simplex import MAX_CELLS
from .transport_problem import emd, emd_dual

__all__ = ["MAX_CELLS", "emd", "emd_dual", "emd_pairs", "is_metric"]

_CHUNK = 4096


def is_metric(distance: NDArray[Any], tolerance: float = 1e-12) -> bool:
    """Return whether a ground distance is a metric, for which shared mass may stay in place.

    Parameters
    ----------
    distance : array, shape (K, K)
        Ground distances.
    tolerance : float
        Allowed violation of symmetry and of the triangle inequality, as a share of the largest
        distance.

    Returns
    -------
    bool
        Whether it is finite, not negative, symmetric, zero on the diagonal and satisfies the
        triangle inequality. Different cells may be at distance zero.

    Examples
    --------
    >>> is_metric(np.array([[0.0, 1.0], [1.0, 0.0]]))
    True
    >>> is_metric(np.array([[0, 1, 3], [1, 0, 1], [3, 1, 0]]))
    False
    """
    d = np.asarray(distance, np.float64)
    if d.ndim != 2 or d.shape[0] != d.shape[1] or not np.isfinite(d).all():
        return False
    slack = tolerance * d.max(initial=0.0)
    if (d < 0).any() or d.diagonal().any() or (abs(d - d.T) > slack).any():
        return False
    return all((d <= d[:, [k]] + d[[k], :] + slack).all() for k in range(len(d)))


def emd_pairs(
    p: NDArray[Any],
    q: NDArray[Any],
    distance: NDArray[Any] = DISTANCE,
    totals: Literal["normalise", "refuse"] = "normalise",
    threads: int = 1,
) -> NDArray[np.float64]:
    """Return the exact Earth mover's distances of N pairs, of any number type and layout.

    Parameters
    ----------
    p, q : array, shape (N, K)
        Masses, such as charges in transverse ADC counts.
    distance : array, shape (K, K)
        Ground distance, a metric on at most 64 cells; that between a wafer's cells unless given.
    totals : {"normalise", "refuse"}
        Divide each distribution by its total, or refuse pairs whose totals differ by more than a
        part in 10**9.
    threads : int
        Threads that share the pairs; the kernels hold no lock.

    Returns
    -------
    float64 array, shape (N,)
        Distances in units of `distance` where normalised, else of mass times distance. NaN where a
        distribution has no mass, or one that is negative or not finite.

    Raises
    ------
    ValueError
        If the shapes do not fit, `distance` is no metric, or the totals of a pair differ that must
        not.

    Examples
    --------
    >>> p, q = np.zeros((1, 48), np.float32), np.zeros((1, 48), np.float32)
    >>> p[0, 0], q[0, 1] = 3, 5
    >>> emd_pairs(p, q).round(6)
    array([2.])
    """
    ground = np.ascontiguousarray(distance, np.float64)
    if distance is not DISTANCE and not is_metric(ground):
        raise ValueError("emd_pairs: expected a metric as distance (see is_metric)")
    p, q = (np.ascontiguousarray(masses, np.float64) for masses in (p, q))
    if p.ndim != 2 or p.shape != q.shape or p.shape[1] != len(ground):
        raise ValueError(
            f"emd_pairs: expected p and q (N, {len(ground)}), got {p.shape} and {q.shape}"
        )
    if totals == "normalise":
        p, q = _normalised(p), _normalised(q)
    elif totals == "refuse":
        _refuse(p, q)
    else:
        raise ValueError(f"emd_pairs: expected totals 'normalise' or 'refuse', got {totals!r}")
    out = np.empty(len(p))
    parts = [slice(at, at + _CHUNK) for at in range(0, len(p), _CHUNK)]
    if threads == 1:
        emd(p, q, ground, out)
        return out
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: emd(p[part], q[part], ground, out[part]), parts))
    return out


def _normalised(masses: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", over="ignore"):
        total = masses.sum(axis=1, keepdims=True)
        shares: NDArray[np.float64] = np.full_like(masses, np.nan)
        np.divide(masses, total, out=shares, where=total > 0)
        return shares


def _refuse(p: NDArray[np.float64], q: NDArray[np.float64]) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        total_p, total_q = p.sum(axis=1), q.sum(axis=1)
        wrong = abs(total_p - total_q) > 1e-9 * np.minimum(total_p, total_q)
        for masses, total in ((p, total_p), (q, total_q)):
            wrong &= (masses >= 0).all(axis=1) & (total > 0) & (total < np.inf)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"emd_pairs: pair {row}: expected equal totals, got {total_p[row]:g} and "
            f"{total_q[row]:g}"
        )
