"""The nets: convolutions over strips, as the antihydrogen family's, and dense layers over bars."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sluice.exporters.families.antihydrogen.model import TwoPaths, head
from sluice.kernels.antihydrogen.hodoscope import BARS

from .recipe import Net

#: Units of the layers over the bars.
DENSE = (64, 32)


class Bars(nn.Module):
    """Probability of an annihilation from (N, 2, 64) bars alone."""

    def __init__(self, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.bars, self.head = dense(), head(DENSE[1], hidden, dropout)

    def logit(self, hodoscope: Tensor) -> Tensor:
        """Return (N,) scores before the sigmoid."""
        score: Tensor = self.head(self.bars(hodoscope)).squeeze(1)
        return score

    def forward(self, hodoscope: Tensor) -> Tensor:
        """Return the (N,) probabilities."""
        return torch.sigmoid(self.logit(hodoscope))


class Both(TwoPaths):
    """Probability of an annihilation from strips and bars."""

    def __init__(self, channels: Sequence[int], hidden: Sequence[int], dropout: float) -> None:
        super().__init__(channels, hidden, dropout)
        self.bars = dense()
        self.head = head(self.width + DENSE[1], hidden, dropout)

    def logit(self, z: Tensor, phi: Tensor, hodoscope: Tensor) -> Tensor:  # type: ignore[override]
        """Return (N,) scores before the sigmoid of strip images and (N, 2, 64) bars."""
        joined = torch.cat([self.joined(z, phi), self.bars(hodoscope)], 1)
        score: Tensor = self.head(joined).squeeze(1)
        return score

    def forward(self, z: Tensor, phi: Tensor, hodoscope: Tensor) -> Tensor:  # type: ignore[override]
        """Return the (N,) probabilities."""
        return torch.sigmoid(self.logit(z, phi, hodoscope))


def dense() -> nn.Sequential:
    """Return the layers over the bars."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(2 * BARS, DENSE[0]), nn.ReLU(), nn.Linear(*DENSE), nn.ReLU()
    )


def build(net: Net) -> TwoPaths | Bars:
    """Return an untrained net of a recipe."""
    if "hodoscope" not in net.sees:
        return TwoPaths(net.channels, net.hidden, net.dropout)
    if "z" not in net.sees:
        return Bars(net.hidden, net.dropout)
    return Both(net.channels, net.hidden, net.dropout)
