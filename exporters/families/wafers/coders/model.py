"""The nets of the wafer family that carry charge over the link: encoder, decoder, tagger.

References
----------
G. Di Guglielmo et al., arXiv:2105.01683: the encoder's topology, as on the front-end chip.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sluice.kernels.wafer.geometry import CELLS, LATENTS

from . import fixed_point_torch

CLASSES = 3
SIZE_SCALE = 0.15


class Encoder(nn.Module):
    """(N, 8, 8) image to (N, 16) latent in the chip's arithmetic: 2,144 weights of 6 bits."""

    taps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, stride=2)
        self.dense = nn.Linear(128, LATENTS)
        # A latent that starts below zero everywhere never learns.
        nn.init.constant_(self.dense.bias, 0.2)
        self.register_buffer("taps", _taps(), False)

    def matrix(self) -> Tensor:
        """Return the quantised convolution as a (64, 128) matrix: much faster than a convolution.

        Zeros pad the bottom and right only, as on the chip.
        """
        kernel = fixed_point_torch.weights(self.conv.weight).reshape(-1)
        padded = torch.cat([kernel, kernel.new_zeros(1)])
        return padded.index_select(0, self.taps).reshape(64, 128)

    def bias(self) -> Tensor:
        """Return the quantised bias of each of the convolution's (128,) outputs."""
        return fixed_point_torch.weights(cast(Tensor, self.conv.bias)).repeat_interleave(16)

    def forward(self, image: Tensor) -> Tensor:
        """Encode; the latents leave unquantised."""
        pixels = fixed_point_torch.truncate(image.reshape(-1, 64), fixed_point_torch.IMAGE_STEP)
        sums = pixels @ self.matrix() + self.bias()
        active = functional.relu(fixed_point_torch.truncate(sums, fixed_point_torch.IMAGE_STEP))
        weight, bias = (
            fixed_point_torch.weights(self.dense.weight),
            fixed_point_torch.weights(self.dense.bias),
        )
        return functional.relu(functional.linear(active, weight, bias))


class Decoder(nn.Module):
    """(N, 16) latent to (N, 48) charge fractions in cell order, each wafer's sum 1.

    Parameters
    ----------
    width
        Width of the two hidden layers.
    conditions
        Inputs beside the latent: none, or the size of the wafer.
    """

    def __init__(self, width: int, conditions: int = 0) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(LATENTS + conditions, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, CELLS),
        )

    def forward(self, latent_q: Tensor, latent_bias: Tensor | None = None) -> Tensor:
        """Decode latents, shifted by a (16,) bias if there is one: what conditions changed."""
        if latent_bias is not None:
            latent_q = latent_q + latent_bias
        return functional.softmax(self.net(latent_q), dim=1)


class Autoencoder(nn.Module):
    """Encoder, link and decoder in a row, as they are trained.

    Parameters
    ----------
    bits
        Bits of a latent on the link.
    width
        Width of the decoder's hidden layers.
    conditional
        Whether the decoder sees the module sum too.
    """

    def __init__(self, bits: int, width: int, *, conditional: bool = False) -> None:
        super().__init__()
        self.bits = bits
        self.conditional = conditional
        self.encoder = Encoder()
        self.decoder = Decoder(width, int(conditional))

    def forward(self, image: Tensor, total: Tensor) -> Tensor:
        """Return the fractions that arrive at the far end of the link."""
        latent = fixed_point_torch.quantise(self.encoder(image), self.bits)
        if self.conditional:
            latent = torch.cat([latent, size(total)], 1)
        return cast(Tensor, self.decoder(latent))


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
        return cast(Tensor, self.net(torch.cat([latent_q, size(sum_q)], 1)))

    def forward(self, latent_q: Tensor, sum_q: Tensor) -> Tensor:
        """Return probabilities."""
        return functional.softmax(self.logits(latent_q, sum_q), dim=1)


def size(total: Tensor) -> Tensor:
    """Return the (N, 1) logarithm of module sums (ADC), brought to the size of a latent."""
    return SIZE_SCALE * torch.log1p(total).reshape(-1, 1)


def _taps() -> Tensor:
    # For each pixel and output of the convolution, which of its weights joins them, if any.
    taps = torch.full((8, 8, 8, 4, 4), fixed_point_torch.TAPS)
    for channel in range(8):
        for row in range(4):
            for column in range(4):
                for tap in range(9):
                    y, x = 2 * row + tap // 3, 2 * column + tap % 3
                    if y < 8 and x < 8:
                        taps[y, x, channel, row, column] = channel * 9 + tap
    return taps.reshape(-1)
