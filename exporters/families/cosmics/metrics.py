"""Separation of muons from annihilations by a net."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.exporters.evaluation.classifier import auc
from sluice.exporters.families.antihydrogen.data import unpacked

from .data import Readouts
from .simulate import ANNIHILATION

#: Share of annihilations that a cut keeps, where the muons it keeps are counted.
KEPT = 0.99


def selections(sample: Readouts) -> dict[str, NDArray[np.bool_]]:
    """Return the (N,) masks of the selections that are measured, by the suffix of their figures.

    All readouts, and ``_two_layers``: those with hits in both layers of strips.
    """
    return {"": np.ones(len(sample), bool), "_two_layers": unpacked(sample.strips)[2] == 2}


def figures(score: NDArray[Any], sample: Readouts) -> dict[str, float]:
    """Return the area under the curve and the share of muons that a loose cut keeps.

    Parameters
    ----------
    score
        (N,), as `data.scores` gives them.
    """
    found = {}
    for suffix, rows in selections(sample).items():
        positive, chosen = sample.truth[rows] == ANNIHILATION, score[rows]
        found[f"auc{suffix}"] = auc(chosen, positive)
        cut = np.quantile(chosen[positive], 1.0 - KEPT)
        found[f"muons_kept{suffix}"] = float((chosen[~positive] >= cut).mean())
    return found
