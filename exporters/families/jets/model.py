"""The jets' nets: the tagger, and the terms that decorrelate its score from the jet mass."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sluice.kernels.jets.observables import OBSERVABLES

#: Observables that span orders of magnitude enter as the logarithm of their sum with this.
LOGARITHMIC = {
    "c2": 1e-2, "d2": 1e-1, "angularity": 1e-4, "aplanarity": 1e-3, "split12": 1.0,
}  # fmt: skip
#: Jet masses of the adversary, in GeV, are divided by this.
MASS_SCALE = 300.0
# Typical resonance, GeV, and the spread of those in training.
_RESONANCE, _RESONANCES = 150.0, 60.0


class Tagger(nn.Module):
    """Probability of signal from observables and, if parametrised, the resonance mass."""

    shift: Tensor
    logarithmic: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(self, width: int, depth: int, *, parametrised: bool = False) -> None:
        super().__init__()
        count = len(OBSERVABLES)
        shift = [LOGARITHMIC.get(name, 0.0) for name in OBSERVABLES]
        self.register_buffer("shift", torch.tensor(shift))
        self.register_buffer("logarithmic", torch.tensor(shift) > 0)
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))
        sizes = [count + parametrised, *[width] * depth]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def standardise(self, observables: NDArray[Any]) -> None:
        """Take mean and spread of the inputs from (N, 10) observables."""
        scaled = self._scaled(torch.from_numpy(observables))
        self.mean, self.spread = scaled.mean(0), scaled.std(0)

    def logit(self, observables: Tensor, resonance: Tensor | None = None) -> Tensor:
        """Return (N,) log odds of signal; `resonance` (N,) in GeV."""
        inputs = (self._scaled(observables) - self.mean) / self.spread
        if resonance is not None:
            hypothesis = ((resonance - _RESONANCE) / _RESONANCES)[:, None]
            inputs = torch.cat([inputs, hypothesis], 1)
        logit: Tensor = self.layers(inputs).squeeze(1)
        return logit

    def forward(self, observables: Tensor, resonance: Tensor | None = None) -> Tensor:
        """Return (N,) probabilities of signal."""
        return torch.sigmoid(self.logit(observables, resonance))

    def _scaled(self, observables: Tensor) -> Tensor:
        # Both branches are computed, so the logarithm's must be finite.
        logarithm = torch.log(observables.clamp(min=0.0) + self.shift.clamp(min=1e-4))
        return torch.where(self.logarithmic, logarithm, observables)


class MassAdversary(nn.Module):
    """Guesses the jet mass from the score, given log pT: a mixture of Gaussians.

    References
    ----------
    C. Shimmin et al., Phys. Rev. D 96 (2017) 074034; G. Louppe, M. Kagan, K. Cranmer,
    arXiv 1611.01046.
    """

    def __init__(self, width: int, components: int, *, parametrised: bool = False) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(2 + parametrised, width), nn.ReLU())
        self.mixture = nn.Linear(width, 3 * components)
        with torch.no_grad():
            self.mixture.bias[components : 2 * components] = torch.linspace(0.0, 1.0, components)
            self.mixture.bias[2 * components :] = math.log(0.1)

    def loss(self, mass: Tensor, *given: Tensor) -> Tensor:
        """Return (N,) −log p(mass | given); masses scaled by `MASS_SCALE`."""
        weight, centre, width = self.mixture(self.hidden(torch.stack(given, 1))).chunk(3, 1)
        width = width.clamp(-6.0, 3.0)
        pull = (mass[:, None] - centre) / width.exp()
        density = torch.log_softmax(weight, 1) - width - 0.5 * pull.square()
        return 0.5 * math.log(2.0 * math.pi) - torch.logsumexp(density, 1)


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return value.view_as(value)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -context.strength * gradient, None


def reversed_gradient(value: Tensor, strength: float) -> Tensor:
    """Return `value`, whose gradient comes back times −`strength`."""
    reversal: Tensor = _Reversal.apply(value, strength)  # type: ignore[no-untyped-call]
    return reversal


def distance_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared distance correlation of two (N,) samples, 0 to 1.

    References
    ----------
    G. J. Székely, M. L. Rizzo, N. K. Bakirov, Ann. Stat. 35 (2007) 2769;
    G. Kasieczka, D. Shih, Phys. Rev. Lett. 125 (2020) 122001.
    """
    # Double centring, written out: the mean of a product of centred matrices from those of the
    # matrices and of their rows. The mean of |bᵢ - bⱼ|² is twice the variance.
    first, second = _apart(a), _apart(b)
    rows, others = first.mean(1), second.mean(1)

    def centred(product: Tensor, one: Tensor, other: Tensor) -> Tensor:
        return product + one.mean() * other.mean() - 2.0 * (one * other).mean()

    both = centred((first * second).mean(), rows, others)
    own = centred(2.0 * a.var(correction=0), rows, rows)
    own = own * centred(2.0 * b.var(correction=0), others, others)
    return both / own.clamp(min=1e-24).sqrt()


def _apart(values: Tensor) -> Tensor:
    return (values[:, None] - values[None, :]).abs()


def probabilities(
    tagger: Tagger, observables: NDArray[Any], resonance: float | None = None
) -> NDArray[np.float32]:
    """Return (N,) scores of (N, 10) observables; `resonance` in GeV where the tagger asks."""
    given = () if resonance is None else (torch.full((len(observables),), resonance),)
    with torch.no_grad():
        found: NDArray[np.float32] = tagger.eval()(torch.from_numpy(observables), *given).numpy()
    return found
