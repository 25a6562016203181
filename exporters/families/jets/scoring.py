"""Samples to score, and the score functions of nets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .data import HARD, HEAVY, SOFT, Array, Jets
from .model import probabilities
from .trainings import Net, Trained

Score = Callable[[Jets], Array]


def score_of(module: Trained, net: Net, resonance: int) -> Score:
    """Return the score function of a net; a parametrised net gets this resonance mass, GeV."""
    parameter = float(resonance) if net.parametrised else None
    return lambda jets: probabilities(module.tagger, jets.x, parameter)


def samples(test: Jets, resonance: int) -> tuple[Jets, Jets]:
    """Return the jets of a resonance, and the background of the same hardness."""
    hardness = HARD if resonance >= HEAVY else SOFT
    soft = test.hardness == hardness
    chosen = ((test.resonance == mass) & soft for mass in (resonance, 0))
    signal, background = (test.part(np.flatnonzero(rows)) for rows in chosen)
    return signal, background
