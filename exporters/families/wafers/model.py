"""The nets of the wafer family: encoder, decoder, Earth mover's distance (EMD) surrogate, tagger.

References
----------
G. Di Guglielmo et al., arXiv:2105.01683: the encoder's topology, as on the front-end chip.
R. Shenoy et al., arXiv:2306.04712: EMD surrogates for training such encoders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sluice.kernels.wafer_geometry import CELL_X, CELL_Y, CELLS, LATENTS, REMAP_8X8

CLASSES = 3
SIZE_SCALE = 0.15
#: The latent on the link: 9 bits, unsigned, one of them above the point.
LATENT_STEP, LATENT_MAX = 1 / 256, 511 / 256


def quantise(latent: Tensor, step: float | Tensor = LATENT_STEP) -> Tensor:
    """Round latents as the link does; the gradient passes through, but not past the ends.

    Parameters
    ----------
    latent
        (N, 16) f32.
    step
        Width of one count, or (N, 1) widths; coarser than on the link to try fewer bits.
    """
    inside = latent.clamp(0.0, LATENT_MAX)
    rounded = (torch.floor(inside / step + 0.5) * step).clamp(max=LATENT_MAX)
    return inside + (rounded - inside).detach()


class Encoder(nn.Module):
    """(N, 8, 8) image to (N, 16) latent: 2,144 parameters, nothing quantised inside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, stride=2)
        self.dense = nn.Linear(128, LATENTS)
        # A latent that starts below zero everywhere never learns.
        nn.init.constant_(self.dense.bias, 0.2)

    def convolve(self, image: Tensor) -> Tensor:
        """Return the (N, 128) sums before the first ReLU; zeros pad the bottom and right only."""
        padded = functional.pad(image.reshape(-1, 1, 8, 8), (0, 1, 0, 1))
        return cast(Tensor, self.conv(padded)).reshape(-1, 128)

    def forward(self, image: Tensor) -> Tensor:
        """Encode."""
        return functional.relu(self.dense(functional.relu(self.convolve(image))))


class Decoder(nn.Module):
    """(N, 16) latent to (N, 48) charge fractions in cell order, each wafer's sum 1."""

    cells: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(LATENTS, 128)
        self.up = nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1)
        self.out = nn.ConvTranspose2d(8, 1, 3, padding=1)
        self.register_buffer("cells", torch.tensor(REMAP_8X8.tolist()), False)

    def forward(self, latent_q: Tensor) -> Tensor:
        """Decode."""
        seed = functional.relu(self.dense(latent_q)).reshape(-1, 8, 4, 4)
        image = self.out(functional.relu(self.up(seed)))
        return functional.softmax(image.reshape(-1, 64).index_select(1, self.cells), dim=1)


class Autoencoder(nn.Module):
    """Encoder, link and decoder in a row, as they are trained."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    def forward(self, image: Tensor) -> Tensor:
        """Return the fractions that arrive at the far end of the link."""
        return cast(Tensor, self.decoder(quantise(self.encoder(image))))


class EmdSurrogate(nn.Module):
    """EMD of two wafers' charge fractions, in unit-hex distance.

    At equal mass the EMD depends on d = p - q alone and is a norm. So is, but for convexity,
    ``n softplus(MLP(|A u|))`` with n = |d|_1 / 2 and u = d / 2n: symmetric and homogeneous by
    construction, and zero at zero.

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
        self.net = nn.Sequential(
            nn.Linear(planes, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 1),
        )
        with torch.no_grad():
            self.planes.weight.copy_(half_planes(planes))

    def forward(self, p: Tensor, q: Tensor) -> Tensor:
        """Return the distance, (N,), of two (N, 48) distributions of sum 1."""
        d = p - q
        mass = 0.5 * d.abs().sum(1, keepdim=True)
        u = d / (2.0 * mass).clamp(min=1e-12)
        distance = functional.softplus(self.net(self.planes(u).abs()))
        return (mass * distance).squeeze(1)


class Tagger(nn.Module):
    """Latents as they arrive and the module sum (ADC) to class probabilities, (N, 3).

    Parameters
    ----------
    hidden
        Width of each hidden layer.
    """

    def __init__(self, hidden: Sequence[int]) -> None:
        super().__init__()
        widths = [LATENTS + 1, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Linear(widths[-1], CLASSES))

    def logits(self, latent_q: Tensor, sum_q: Tensor) -> Tensor:
        """Return scores before the softmax."""
        # The logarithm is brought to the size of a latent: all inputs learn at one pace.
        size = SIZE_SCALE * torch.log1p(sum_q).reshape(-1, 1)
        return cast(Tensor, self.net(torch.cat([latent_q, size], 1)))

    def forward(self, latent_q: Tensor, sum_q: Tensor) -> Tensor:
        """Return probabilities."""
        return functional.softmax(self.logits(latent_q, sum_q), dim=1)


def half_planes(count: int) -> Tensor:
    """Return (count, 48) smoothed half-plane indicators, directions and offsets evenly spread."""
    xy = torch.tensor([[float(x), float(y)] for x, y in zip(CELL_X, CELL_Y, strict=True)])
    xy = xy - xy.mean(0)
    index = torch.arange(count)
    angle = math.pi * (index + 0.5) * ((math.sqrt(5.0) - 1.0) / 2.0)
    offset = 12.0 * ((index + 0.5) / count) - 6.0
    along = xy @ torch.stack([angle.cos(), angle.sin()])
    smear = torch.where(index % 2 == 0, 0.4, 2.0)
    return torch.sigmoid((along.T - offset[:, None]) / smear[:, None])
