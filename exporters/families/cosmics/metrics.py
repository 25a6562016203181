"""Separation of muons from annihilations by a net."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.exporters.evaluation.classifier import auc
from sluice.exporters.evaluation.uncertainty import auc_error, bootstrap_errors
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
    found: dict[str, float] = {}
    for suffix, rows in selections(sample).items():
        selected = _figures(score[rows], sample.truth[rows] == ANNIHILATION)
        found |= {f"{name}{suffix}": value for name, value in selected.items()}
    return found


def errors(score: NDArray[Any], sample: Readouts) -> dict[str, float]:
    """Return the standard errors of `figures`, as ``<name>_error``."""
    found: dict[str, float] = {}
    for suffix, rows in selections(sample).items():
        chosen, positive = score[rows], sample.truth[rows] == ANNIHILATION
        found[f"auc{suffix}_error"] = auc_error(chosen, positive)
        kept = partial(_muons_kept, chosen[positive], chosen[~positive])
        drawn = bootstrap_errors(kept, positive.sum(), (~positive).sum())
        found[f"muons_kept{suffix}_error"] = drawn["muons_kept_error"]
    return found


def _figures(score: NDArray[Any], positive: NDArray[np.bool_]) -> dict[str, float]:
    annihilations, muons = score[positive], score[~positive]
    return {"auc": auc(score, positive), **_muons_kept(annihilations, muons)}


def _muons_kept(
    annihilations: NDArray[Any],
    muons: NDArray[Any],
    of_annihilations: NDArray[np.int64] | slice = slice(None),
    of_muons: NDArray[np.int64] | slice = slice(None),
) -> dict[str, float]:
    """Return the share of muons that a cut keeps, from the scores of some rows of each class."""
    cut = np.quantile(annihilations[of_annihilations], 1.0 - KEPT)
    return {"muons_kept": float((muons[of_muons] >= cut).mean())}
