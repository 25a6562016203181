"""Pairs of wafers with their exact Earth mover's distance, on which surrogates are trained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.emd.exact import emd_pairs
from sluice.kernels.wafer.geometry import ADC_PER_MIPT, CELL_X, CELL_Y, CELLS, DISTANCE

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

#: Cells of each super trigger cell, as they lie on the wafer.
STC4 = np.add.outer(
    [16 * r + 8 * i + 2 * j for r in range(3) for i in range(2) for j in range(2)], [0, 1, 4, 5]
)
STC16 = np.arange(CELLS).reshape(3, 16)
THRESHOLD = 1.35 * ADC_PER_MIPT


def fractions(charge: NDArray[np.generic]) -> F64:
    """Divide (N, 48) charges by each wafer's sum; every sum must be above 0."""
    values: F64 = charge.astype(np.float64)
    values /= values.sum(1, keepdims=True)
    return values


def exact(p: NDArray[np.generic], q: NDArray[np.generic]) -> F64:
    """Return the exact EMD, (N,), of rows of (N, 48) fractions, in unit-hex distance."""
    return emd_pairs(p, q)


def oracle(p: NDArray[np.generic], q: NDArray[np.generic]) -> F64:
    """Return the exact EMD, (N,), as the package POT computes it, one pair at a time."""
    import ot

    metric = np.ascontiguousarray(DISTANCE, np.float64)
    rows = zip(fractions(p), fractions(q), strict=True)
    return np.array([ot.emd2(a, b, metric) for a, b in rows], np.float64)


def _shuffled(p: F64, rng: np.random.Generator) -> F64:
    """Return other wafers of the sample."""
    return rng.permutation(p)


def _largest(p: F64, keep: NDArray[np.integer] | int) -> F64:
    """Keep the `keep` largest cells of each wafer, as the chip's best-choice codec does."""
    rank = np.argsort(np.argsort(-p, axis=1, kind="stable"), axis=1, kind="stable")
    return fractions(np.where(rank < np.reshape(keep, (-1, 1)), p, 0.0))


def _best_choice(p: F64, rng: np.random.Generator) -> F64:
    """Keep the 1 to 19 largest cells of each wafer."""
    return _largest(p, rng.integers(1, 20, len(p)))


def _grouped(p: F64, groups: NDArray[np.integer]) -> F64:
    """Move the charge of each group of cells to its largest cell."""
    charge = p[:, groups]
    top = charge.argmax(-1)[..., None] == np.arange(groups.shape[1])
    q = np.zeros_like(p)
    q[:, groups] = top * charge.sum(-1, keepdims=True)
    return q


def _stc4(p: F64, _: np.random.Generator) -> F64:
    """Move the charge of each super trigger cell of 2 x 2 to its largest cell."""
    return _grouped(p, STC4)


def _stc16(p: F64, _: np.random.Generator) -> F64:
    """Move the charge of each third of the wafer to its largest cell."""
    return _grouped(p, STC16)


def _above(p: F64, minimum: NDArray[np.float64]) -> F64:
    """Keep the cells above a fraction, (N,), and the largest cell in any case."""
    keep = p >= np.minimum(minimum, p.max(1))[:, None]
    return fractions(np.where(keep, p, 0.0))


def _threshold(p: F64, rng: np.random.Generator) -> F64:
    """Keep the cells above a threshold, as if the wafer's sum were 50 to 5,000 ADC counts."""
    return _above(p, THRESHOLD / (50.0 * 100.0 ** rng.random(len(p))))


def _moved(p: F64, rng: np.random.Generator) -> F64:
    """Move a random share of one random cell's charge to another cell, in each wafer."""
    rows = np.arange(len(p))
    source = np.argmax(p * rng.random(p.shape), axis=1)
    target = rng.integers(0, p.shape[1], len(p))
    share = p[rows, source] * rng.random(len(p))
    q = p.copy()
    q[rows, source] -= share
    q[rows, target] += share
    return q


def _near(p: F64, rng: np.random.Generator) -> F64:
    """Change every charge by a random factor; by 0.1 to 50 percent, the same for a wafer."""
    width = 10.0 ** rng.uniform(-3.0, -0.3, (len(p), 1))
    return fractions(p * np.exp(width * rng.normal(size=p.shape)))


#: Kinds of pairs: functions of (N, 48) fractions and a random generator that return partners' ones.
PAIR_KINDS: dict[str, Callable[[F64, np.random.Generator], F64]] = {
    "random": _shuffled,
    "best_choice": _best_choice,
    "stc4": _stc4,
    "stc16": _stc16,
    "threshold": _threshold,
    "moved": _moved,
    "near": _near,
}


def mixed(p: F64, rng: np.random.Generator) -> F64:
    """Return a partner for each wafer, of each kind for an equal share of them."""
    parts = np.array_split(p, len(PAIR_KINDS))
    kinds = zip(PAIR_KINDS.values(), parts, strict=True)
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
