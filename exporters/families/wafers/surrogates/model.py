"""Surrogates of the Earth mover's distance (EMD) of two wafers' charge fractions.

References
----------
L. Kantorovich, G. Rubinstein (1958): at equal mass the EMD is a norm of the difference.
S. Winograd (1980), Arithmetic complexity of computations: short cyclic convolutions.
R. Shenoy et al., arXiv:2306.04712: a convolutional net of both wafers, averaged over their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sluice.kernels.wafer.geometry import CELL_X, CELL_Y, CELLS

#: Cells 16 k to 16 k + 15 are a third of the wafer: a turn by 120 degrees takes one to the next.
THIRDS = 3
_CELLS = CELLS // THIRDS

Thirds = Sequence[Tensor]


class RotationEquivariantLinear(nn.Module):
    """A linear map of three thirds to three thirds that commutes with turning them.

    Such a map is a cyclic convolution of length three: instead of nine products with a matrix it
    takes one for the sum of the thirds and three for their differences.

    Parameters
    ----------
    inputs, outputs
        Numbers of each third.

    Attributes
    ----------
    parts
        (3, outputs, inputs): factor of the mean of the thirds, then real and imaginary part of that
        of the rest, in an orthonormal basis.
    macs
        Multiply-adds, additions included.
    """

    combine: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        scale = torch.tensor([1.0, 0.5**0.5, 0.5**0.5]) / inputs**0.5
        self.parts = nn.Parameter(scale[:, None, None] * torch.randn(THIRDS, outputs, inputs))
        t = 3.0**-0.5
        rows = [[1 / 3, 0.0, 0.0], [0.0, 1.0, t], [0.0, 0.0, 2.0 * t], [0.0, 1.0, -t]]
        self.register_buffer("combine", torch.tensor(rows), persistent=False)
        self.macs = 4 * inputs * outputs + 5 * inputs + 6 * outputs

    def forward(self, thirds: Thirds, offset: Tensor | None = None) -> list[Tensor]:
        """Return (N, outputs) for each of three (N, inputs), `offset` added to all."""
        a, b, c = thirds
        whole, first, second, third = torch.tensordot(self.combine, self.parts, 1)
        x = functional.linear(a - c, first)
        y = functional.linear(b - c, second)
        z = functional.linear(a - b, third)
        common = functional.linear(a + b + c, whole) + (x + y + z) * (1.0 / THIRDS)
        common = common if offset is None else common + offset
        return [common - y, common - z, common - x]

    @torch.no_grad()
    def start(self, rows: Tensor) -> None:
        """Make the first third of the outputs the (outputs, 3 inputs) `rows` times all inputs."""
        a, b, c = rows.chunk(THIRDS, 1)
        whole = a + b + c
        self.parts.copy_(torch.stack([whole, 1.5 * a - 0.5 * whole, 0.75**0.5 * (c - b)]))


class EmdSurrogate(nn.Module):
    """EMD in unit-hex distance, as a function of the difference that is nearly a norm.

    At equal mass the EMD depends on d = p - q alone, is a norm, and stays when both wafers are
    turned by 120 degrees. So is, but for convexity, ``n softplus(net(|A d| / n, m / n))``, where n
    is a weighted sum of m = |d|_1 / 2 and |A d|, and a norm itself: symmetric and homogeneous by
    construction, and zero at zero. All layers turn with the wafer; the last one takes the mean.

    Parameters
    ----------
    widths
        A third of the rows of A, which start as smoothed half-planes, the coordinates of sliced
        transport; then a third of the width of each hidden layer.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.planes = RotationEquivariantLinear(_CELLS, widths[0])
        self.planes.start(half_planes(widths[0]))
        self.weight = nn.Parameter(torch.zeros(widths[0]))
        self.layers = nn.ModuleList(RotationEquivariantLinear(a, b) for a, b in pairwise(widths))
        self.biases = nn.ParameterList(torch.zeros(width) for width in widths[1:])
        self.moved = nn.Parameter(torch.zeros(widths[1]))
        self.last = nn.Linear(widths[-1], 1)
        layers = [self.planes, *self.layers]
        self.macs = sum(int(one.macs) for one in layers) + widths[1]
        self.macs += THIRDS * (widths[0] + widths[-1])

    def forward(self, p: Tensor, q: Tensor) -> Tensor:
        """Return the distance, (N,), of two (N, 48) distributions of sum 1."""
        d = p - q
        mass = 0.5 * d.abs().sum(1, keepdim=True)
        along = [one.abs() for one in self.planes(d.chunk(THIRDS, 1))]
        weight = self.weight.exp() / (THIRDS * len(self.weight))
        scale = (along[0] + along[1] + along[2]) @ weight[:, None] + 0.02 * mass
        shape = 1.0 / scale.clamp(min=1e-12)
        hidden = [one * shape for one in along]
        offsets = [self.biases[0] + mass * shape * self.moved, *self.biases[1:]]
        for layer, offset in zip(self.layers, offsets, strict=True):
            hidden = [functional.silu(one) for one in layer(hidden, offset)]
        value = self.last(hidden[0] + hidden[1] + hidden[2])
        return cast(Tensor, (scale * functional.softplus(value)).squeeze(1))


class CnnSurrogate(nn.Module):
    """The published surrogate: two 4 x 4 x 3 images, convolutions 5 x 5, one dense layer.

    Symmetric because it is averaged over both orders; nothing else is built in.

    Parameters
    ----------
    filters
        Number of filters of each of the three convolutions.
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
