"""Losses of encoders: four distances between charge fractions.

References
----------
G. Di Guglielmo et al., arXiv:2105.01683: the telescope loss.
R. Shenoy et al., arXiv:2306.04712: the Earth mover's distance (EMD) as a loss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from sluice.kernels.wafer.geometry import CELLS

Loss = Callable[[Tensor, Tensor], Tensor]

#: Overlapping groups of 2 x 2 cells and 24 times their weights; the last nine cross an edge between
#: rhombi.
# fmt: off
SQUARES = (
    ((0, 1, 4, 5), 9), ((2, 3, 6, 7), 8), ((8, 9, 12, 13), 13.5),
    ((10, 11, 14, 15), 9), ((16, 17, 20, 21), 9), ((18, 19, 22, 23), 8),
    ((24, 25, 28, 29), 13.5), ((26, 27, 30, 31), 9), ((32, 33, 36, 37), 9),
    ((34, 35, 38, 39), 8), ((40, 41, 44, 45), 13.5), ((42, 43, 46, 47), 9),
    ((4, 5, 8, 9), 9), ((6, 7, 10, 11), 6), ((20, 21, 24, 25), 9),
    ((22, 23, 26, 27), 6), ((36, 37, 40, 41), 9), ((38, 39, 42, 43), 6),
    ((1, 2, 5, 6), 6), ((9, 10, 13, 14), 9), ((17, 18, 21, 22), 6),
    ((25, 26, 29, 30), 9), ((33, 34, 37, 38), 6), ((41, 42, 45, 46), 9),
    ((5, 6, 9, 10), 6), ((21, 22, 25, 26), 6), ((37, 38, 41, 42), 6),
    ((0, 1, 27, 31), 9), ((1, 2, 23, 27), 6), ((2, 3, 19, 23), 10),
    ((3, 7, 34, 35), 10), ((7, 11, 33, 34), 6), ((11, 15, 32, 33), 9),
    ((16, 17, 47, 43), 9), ((17, 18, 43, 39), 6), ((18, 19, 39, 35), 10),
)
# fmt: on

_SCALE = 100.0  # brings squared errors of fractions to the size of a distance


def mse(fraction: Tensor, decoded: Tensor) -> Tensor:
    """Return the squared error of (N, 48) fractions."""
    return _SCALE * (fraction - decoded).square().mean()


def cross_entropy(fraction: Tensor, decoded: Tensor) -> Tensor:
    """Return the mean cross-entropy of (N, 48) distributions, in nats."""
    return -(fraction * torch.log(decoded + 1e-9)).sum(1).mean()


def telescope(fraction: Tensor, decoded: Tensor) -> Tensor:
    """Return the telescope loss: cells, overlapping groups of 2 x 2, and groups of 16 together."""
    squares, weights = _squares()
    total = torch.zeros(())
    for coefficient, groups, weight in (
        (4.0, torch.eye(CELLS), torch.ones(CELLS)),
        (2.0, squares, weights),
        (1.0, torch.eye(3).repeat_interleave(16, 1), torch.ones(3)),
    ):
        t, p = fraction @ groups.T, decoded @ groups.T
        total = total + coefficient * (weight * (t - p).square() * torch.maximum(t, p)).mean()
    return _SCALE * total


#: Losses without a surrogate, by the name of the encoder trained with each.
PLAIN: dict[str, Loss] = {"warm": cross_entropy, "mse": mse, "telescope": telescope}
KINDS = ("mse", "telescope", "emd", "best")


def chosen(kind: str, surrogate: Loss, blend: float) -> Loss:
    """Return the loss of one kind.

    Parameters
    ----------
    kind
        Loss to train with: one of `PLAIN`, ``emd`` or ``best``.
    surrogate
        The approximate EMD, (N,), of two batches of fractions.
    blend
        Weight of the cross-entropy beside the EMD in ``best``.
    """
    if kind in PLAIN:
        return PLAIN[kind]
    weight = blend if kind == "best" else 0.0

    def loss(fraction: Tensor, decoded: Tensor) -> Tensor:
        distance = surrogate(fraction, decoded).mean()
        return distance + weight * cross_entropy(fraction, decoded) if weight else distance

    return loss


@cache
def _squares() -> tuple[Tensor, Tensor]:
    groups = torch.zeros(len(SQUARES), CELLS)
    for row, (cells, _) in enumerate(SQUARES):
        groups[row, list(cells)] = 1.0
    return groups, torch.tensor([weight / 24 for _, weight in SQUARES])
