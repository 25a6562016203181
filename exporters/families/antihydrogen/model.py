"""The published net: z and φ each through a path of 1-D convolutions, then joined."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sluice.kernels.antihydrogen.strips import PHI, Z

KERNELS = (7, 3, 3, 3, 3)
CHANNELS = (8, 16, 32, 64, 128)


class TwoPaths(nn.Module):
    """Probability that an annihilation happened on the wall.

    Parameters
    ----------
    channels
        Filters of each of the five convolutions, in both paths.
    hidden
        Units of the two layers behind them.
    dropout
        Share of the last layer's units that a step leaves out.

    References
    ----------
    P. Sadowski et al., J. Phys. Commun. 1 (2017) 025001.
    """

    def __init__(
        self, channels: Sequence[int] = CHANNELS, hidden: Sequence[int] = (50, 25),
        dropout: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__()
        self.z, self.phi = path(channels), path(channels)
        self.width = channels[-1] * (left(Z) + left(PHI))
        self.head = head(self.width, hidden, dropout)

    def logit(self, z: Tensor, phi: Tensor) -> Tensor:
        """Return (N,) scores before the sigmoid of (N, 2, 447) and (N, 2, 246) images."""
        score: Tensor = self.head(self.joined(z, phi)).squeeze(1)
        return score

    def joined(self, z: Tensor, phi: Tensor) -> Tensor:
        """Return the outputs of both paths, concatenated."""
        # As images of one row: convolutions of two dimensions are the faster ones to train.
        made = (self.z(z.unsqueeze(2)), self.phi(phi.unsqueeze(2)))
        return torch.cat([one.flatten(1) for one in made], 1)

    def forward(self, z: Tensor, phi: Tensor) -> Tensor:
        """Return the (N,) probabilities."""
        return torch.sigmoid(self.logit(z, phi))


def path(channels: Sequence[int]) -> nn.Sequential:
    """Return five convolutions, each with pooling by 2, of images of one row."""
    layers: list[nn.Module] = []
    before = 2
    for width, kernel in zip(channels, KERNELS, strict=True):
        convolution = nn.Conv2d(before, width, (1, kernel), padding=(0, kernel // 2))
        layers += [convolution, nn.MaxPool2d((1, 2)), nn.ReLU()]
        before = width
    return nn.Sequential(*layers)


def left(strips: int) -> int:
    """Return the length of a path's output for a number of strips."""
    return strips >> len(KERNELS)


def head(width: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """Return the layers from the joined paths to the score."""
    return nn.Sequential(
        nn.Linear(width, hidden[0]), nn.ReLU(), nn.Linear(hidden[0], hidden[1]), nn.ReLU(),
        nn.Dropout(dropout), nn.Linear(hidden[1], 1),
    )  # fmt: skip
