"""Plots of the cosmics family: separation of muons from annihilations by strips and bars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from sluice.exporters.evaluation.classifier import roc
from sluice.exporters.evaluation.plot_style import figure

from .data import Readouts
from .metrics import KEPT, selections
from .simulate import ANNIHILATION

_SEES = {"cosmics-strips": "strips", "cosmics-bars": "bars", "cosmics": "strips and bars"}
_TITLES = {"": "all readouts", "_two_layers": "both layers of strips hit"}
#: Shares of annihilations of the second plot: those that a trigger would still want.
_WANTED = np.linspace(0.8, 1.0, 401)


def draw(
    folder: Path, scores: Mapping[str, NDArray[Any]], sample: Readouts, found: Mapping[str, Any]
) -> list[Path]:
    """Draw all plots of an evaluation; return their files.

    Parameters
    ----------
    folder
        Folder to write the plots to.
    scores
        (N,) probabilities of an annihilation, by model.
    sample
        The N readouts.
    found
        The tables of the evaluation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [
        curves(folder / "cosmics-curves.png", scores, sample, found),
        muons(folder / "cosmics-muons.png", scores, sample, found),
    ]


def curves(
    path: Path, scores: Mapping[str, NDArray[Any]], sample: Readouts, found: Mapping[str, Any]
) -> Path:
    """Draw the annihilations kept against the muons kept."""
    with figure(path, 1, len(_TITLES), (18, 8)) as axes:
        for axis, (suffix, rows) in zip(axes, selections(sample).items(), strict=True):
            for name in _shown(scores):
                area = found["models"][name][f"auc{suffix}"]
                kept = roc(scores[name][rows], sample.truth[rows] == ANNIHILATION)
                axis.plot(*kept, label=f"{_SEES.get(name, name)}: area {area:.3f}")
            axis.plot([0, 1], [0, 1], ":", color="gray")
            axis.set(xlabel="muons kept", ylabel="annihilations kept")
            _label(axis, suffix, rows)
    return path


def muons(
    path: Path, scores: Mapping[str, NDArray[Any]], sample: Readouts, found: Mapping[str, Any]
) -> Path:
    """Draw the muons kept against the annihilations kept, and their standard errors."""
    with figure(path, 1, len(_TITLES), (18, 8)) as axes:
        for axis, (suffix, rows) in zip(axes, selections(sample).items(), strict=True):
            for colour, name in enumerate(_shown(scores)):
                losses, wins = roc(scores[name][rows], sample.truth[rows] == ANNIHILATION)
                passed = np.interp(_WANTED, wins, losses)
                passed[passed == 0] = np.nan  # no place on the axis
                axis.plot(_WANTED, passed, f"C{colour}", label=_SEES.get(name, name))
                model = found["models"][name]
                kept = f"muons_kept{suffix}"
                axis.errorbar(KEPT, model[kept], model[f"{kept}_error"],
                              fmt=f"C{colour}o", capsize=4)  # fmt: skip
            axis.set(xlabel="annihilations kept", ylabel="muons kept", yscale="log",
                     xlim=(_WANTED[0], 1), ylim=(None, 1))  # fmt: skip
            _label(axis, suffix, rows)
    return path


def _shown(scores: Mapping[str, NDArray[Any]]) -> list[str]:
    """Return the models' names, in the order of their inputs."""
    return sorted(scores, key=lambda name: (name not in _SEES, [*_SEES, name].index(name)))


def _label(axis: Axes, suffix: str, rows: NDArray[np.bool_]) -> None:
    axis.set_title(f"{_TITLES[suffix]}: {rows.sum():,}", fontsize=16)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=14)
