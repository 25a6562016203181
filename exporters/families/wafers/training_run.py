"""One training of the wafer family: what its processes share, and the wafers they train on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
import numpy as np

from . import data, measured_files
from .data import Wafers
from .recipe import Recipe
from .surrogates import pairs


@dataclass(frozen=True)
class TrainingRun:
    """One training of all nets of the family: what its processes share."""

    recipe: Recipe
    seed: int
    folder: Path
    resume: bool


@dataclass(frozen=True)
class Sample:
    """Wafers to train on and to choose the best weights by; no image in both."""

    train: Wafers
    valid: Wafers


def split(run: TrainingRun) -> Sample:
    """Simulate wafers, add the measured ones that may be learnt, and part the sample."""
    return _sample(msgspec.json.encode(run.recipe), run.seed)


@cache
def _sample(encoded: bytes, seed: int) -> Sample:
    recipe = msgspec.json.decode(encoded, type=Recipe)
    simulated = data.simulated(recipe.events, seed, recipe.coded)
    train, valid = _parted(simulated, recipe.validation, seed)
    turns = pairs.symmetries()
    for name, label in measured_files.MEASURED.items():
        found = measured_files.training_rows(name, label)
        times = recipe.repeats.busy if label == 2 else recipe.repeats.sparse
        if found is not None and times:
            more, few = _parted(found, recipe.validation, seed)
            train = data.concatenate([train, data.rotate(more, turns, times)])
            valid = data.concatenate([valid, few])
    return Sample(train, valid)


def _parted(whole: Wafers, share: float, seed: int) -> tuple[Wafers, Wafers]:
    order = np.random.default_rng(seed).permutation(len(whole))
    cut = max(1, round(share * len(order)))
    return whole.part(order[cut:]), whole.part(order[:cut])
