"""Pairs of wafers with their exact Earth mover's distance: what the surrogate learns from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import ot
from numpy.typing import NDArray

from sluice.kernels.wafer_geometry import CELL_X, CELL_Y, DISTANCE

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
STC_GROUP = 4


def fractions(charge: NDArray[np.generic]) -> F64:
    """Divide (N, 48) charges by each wafer's sum; every sum must be above 0."""
    values: F64 = charge.astype(np.float64)
    values /= values.sum(1, keepdims=True)
    return values


def exact(p: NDArray[np.generic], q: NDArray[np.generic]) -> F64:
    """Return the exact EMD, (N,), of rows of (N, 48) fractions, in unit-hex distance."""
    metric = np.ascontiguousarray(DISTANCE, np.float64)
    rows = zip(fractions(p), fractions(q), strict=True)
    return np.array([ot.emd2(a, b, metric) for a, b in rows], np.float64)


def shuffled(p: F64, rng: np.random.Generator) -> F64:
    """Return other wafers of the sample."""
    return rng.permutation(p)


def best_choice(p: F64, rng: np.random.Generator) -> F64:
    """Keep the 1 to 19 largest cells of each wafer, as the chip's best-choice codec does."""
    keep = rng.integers(1, 20, len(p))
    rank = np.argsort(np.argsort(-p, axis=1, kind="stable"), axis=1, kind="stable")
    return fractions(np.where(rank < keep[:, None], p, 0.0))


def super_cells(p: F64, _: np.random.Generator) -> F64:
    """Move the charge of each group of four consecutive cells to its largest cell."""
    groups = p.reshape(len(p), -1, STC_GROUP)
    top = groups.argmax(-1)[..., None] == np.arange(STC_GROUP)
    q: F64 = (top * groups.sum(-1, keepdims=True)).reshape(p.shape)
    return q


def moved(p: F64, rng: np.random.Generator) -> F64:
    """Move a random share of one random cell's charge to another cell, in each wafer."""
    rows = np.arange(len(p))
    source = np.argmax(p * rng.random(p.shape), axis=1)
    target = rng.integers(0, p.shape[1], len(p))
    share = p[rows, source] * rng.random(len(p))
    q = p.copy()
    q[rows, source] -= share
    q[rows, target] += share
    return q


#: Kinds of pairs: (N, 48) fractions to the fractions that each is paired with.
PARTNERS: dict[str, Callable[[F64, np.random.Generator], F64]] = {
    "random": shuffled,
    "best_choice": best_choice,
    "super_cell": super_cells,
    "moved": moved,
}


def mixed(p: F64, rng: np.random.Generator) -> F64:
    """Return a partner for each wafer, of each kind for an equal share of them."""
    parts = np.array_split(p, len(PARTNERS))
    kinds = zip(PARTNERS.values(), parts, strict=True)
    return np.concatenate([partner(part, rng) for partner, part in kinds])


def symmetries() -> NDArray[np.int64]:
    """Return (K, 48) cell permutations under which all distances stay: the wafer's symmetries."""
    xy = np.stack([np.asarray(CELL_X), np.asarray(CELL_Y)], 1).astype(np.float64)
    xy -= xy.mean(0)
    found = []
    for turn in range(12):
        angle = turn * np.pi / 6.0
        c, s = np.cos(angle), np.sin(angle)
        for flip in (1.0, -1.0):
            moved = xy @ np.array([[c, -s], [s, c]]) * np.array([flip, 1.0])
            gap = np.hypot(*(moved[:, None] - xy[None]).transpose(2, 0, 1))
            if (gap.min(1) < 0.1).all() and len(set(gap.argmin(1))) == len(xy):
                found.append(gap.argmin(1))
    return np.stack(found)
