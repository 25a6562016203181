"""Surrogates of the Earth mover's distance (EMD) of two wafers' charge fractions.

References
----------
L. Kantorovich, G. Rubinstein (1958): at equal mass the EMD is a norm of the difference.
R. Shenoy et al., arXiv:2306.04712: a convolutional net of both wafers, averaged over their order.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sluice.kernels.wafer_geometry import CELL_X, CELL_Y, CELLS


class EmdSurrogate(nn.Module):
    """EMD in unit-hex distance, as a function of the difference that is nearly a norm.

    At equal mass the EMD depends on d = p - q alone and is a norm. So is, but for convexity,
    ``n softplus(MLP(|A d| / n, m / n))``, where n is a weighted sum of m = |d|_1 / 2 and |A d|, and
    a norm itself: symmetric and homogeneous by construction, and zero at zero.

    Parameters
    ----------
    planes
        Rows of A; they start as smoothed half-planes, the coordinates of sliced transport.
    hidden
        Width of the two hidden layers.
    """

    def __init__(self, planes: int, hidden: int) -> None:
        super().__init__()
        self.planes = nn.Linear(CELLS, planes, bias=False)
        self.weight = nn.Parameter(torch.zeros(planes))
        self.net = nn.Sequential(
            nn.Linear(planes + 1, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 1),
        )
        with torch.no_grad():
            self.planes.weight.copy_(half_planes(planes))
        self.macs = CELLS * planes + planes + hidden * (planes + 1 + hidden + 1)

    def forward(self, p: Tensor, q: Tensor) -> Tensor:
        """Return the distance, (N,), of two (N, 48) distributions of sum 1."""
        d = p - q
        mass = 0.5 * d.abs().sum(1, keepdim=True)
        along = self.planes(d).abs()
        scale = (along * self.weight.exp()).mean(1, keepdim=True) + 0.02 * mass
        shape = torch.cat([along, mass], 1) / scale.clamp(min=1e-12)
        return cast(Tensor, (scale * functional.softplus(self.net(shape))).squeeze(1))


class CnnSurrogate(nn.Module):
    """The published surrogate: two 4 x 4 x 3 images, convolutions 5 x 5, one dense layer.

    Symmetric because it is averaged over both orders; nothing else is built in.

    Parameters
    ----------
    filters
        Of each of the three convolutions.
    hidden
        Width of the dense layer.
    """

    def __init__(self, filters: int = 32, hidden: int = 256) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before in (6, filters, filters):
            layers += [nn.Conv2d(before, filters, 5, padding=2), nn.BatchNorm2d(filters), nn.ReLU()]
        flat = 16 * filters
        self.net = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )
        # Both orders count, and the taps that fall into the padding.
        self.macs = 2 * (16 * 25 * filters * (6 + 2 * filters) + hidden * (flat + 1))

    def forward(self, p: Tensor, q: Tensor) -> Tensor:
        """Return the distance, (N,), of two (N, 48) distributions of sum 1."""
        # Cells 16 k to 16 k + 15 are one rhombus of 4 x 4 cells: one channel.
        p, q = p.reshape(-1, 3, 4, 4), q.reshape(-1, 3, 4, 4)
        both = self.net(torch.cat([p, q], 1)) + self.net(torch.cat([q, p], 1))
        return functional.softplus(0.5 * both).squeeze(1)


def half_planes(count: int) -> Tensor:
    """Return (count, 48) smoothed half-plane indicators, directions and offsets evenly spread."""
    xy = torch.tensor([[float(x), float(y)] for x, y in zip(CELL_X, CELL_Y, strict=True)])
    xy = xy - xy.mean(0)
    index = torch.arange(count)
    angle = math.pi * (index + 0.5) * ((math.sqrt(5.0) - 1.0) / 2.0)
    offset = 12.0 * ((index + 0.5) / count) - 6.0
    along = xy @ torch.stack([angle.cos(), angle.sin()])
    smear = torch.where(index % 2 == 0, 0.4, 2.0)
    planes = torch.sigmoid((along.T - offset[:, None]) / smear[:, None])
    return planes - planes.mean(1, keepdim=True)
