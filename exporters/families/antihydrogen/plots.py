"""Plots of the antihydrogen family: the toy beside real events, nets beside the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mplhep
import numpy as np
from numpy.typing import NDArray

from sluice.exporters.conversion.onnx_runner import Runner
from sluice.exporters.evaluation.classifier import roc
from sluice.exporters.evaluation.plot_style import figure

from . import LABELS, metrics
from .data import COVERAGE, Annihilations

_VIEWS = {
    "inner z": (0, 447),
    "inner φ": (447, 693),
    "outer z": (693, 1140),
    "outer φ": (1140, 1430),
}
_MARKS = {"toy": "o-", "elsewhere": "^--"}
_TITLES = {
    "vertex": "with a vertex",
    "without": "two layers, no vertex",
    "two_layers": "two layers",
}


def draw(
    folder: Path,
    nets: Mapping[str, Runner],
    samples: Mapping[str, Annihilations],
    found: Mapping[str, Any],
) -> list[Path]:
    """Draw all plots of an evaluation; return their files.

    Parameters
    ----------
    folder
        Folder to write the plots to.
    nets
        The models by name.
    samples
        The events by what they are called.
    found
        The tables of the evaluation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [
        spectra(folder / "antihydrogen-toy.png", samples),
        curves(folder / "antihydrogen-curves.png", nets["antihydrogen"], samples),
        areas(folder / "antihydrogen-areas.png", samples, found),
    ]


def spectra(path: Path, samples: Mapping[str, Annihilations]) -> Path:
    """Draw number and width of clusters of each view, by class, of each sample."""
    with figure(path, 2, 4, (24, 11)) as axes:
        for name, sample in samples.items():
            if name == "elsewhere":
                continue  # the same toy
            hit = sample.part(sample.images()[2] > 0)
            for label in (0, 1):
                bits = np.unpackbits(hit.part(hit.truth == label).strips, axis=1)
                for column, (start, stop) in enumerate(_VIEWS.values()):
                    numbers, widths = _clusters(bits[:, start:stop])
                    style = {"ls": "-" if name == "toy" else ":", "lw": 2, "color": f"C{label}"}
                    for row, values in enumerate((numbers, widths)):
                        bins = np.histogram(np.minimum(values, 9), np.arange(-0.5, 10))
                        text = f"{name}, {LABELS[label]}"
                        axes[4 * row + column].set_title(list(_VIEWS)[column], fontsize=14)
                        mplhep.histplot(
                            bins, ax=axes[4 * row + column], density=True, label=text, **style
                        )
        for index, axis in enumerate(axes):
            axis.set_xlabel(("clusters", "strips of a cluster")[index // 4])
        axes[0].legend(fontsize=11)
    return path


def curves(path: Path, net: Runner, samples: Mapping[str, Annihilations]) -> Path:
    """Draw the net's curves of wall against axis, and the vertex finding's."""
    with figure(path, 1, len(samples), (8 * len(samples), 7)) as axes:
        for axis, (name, sample) in zip(axes, samples.items(), strict=True):
            coverage, radius = sample.coverage()
            score = metrics.scores(net, sample)
            vertex = coverage == COVERAGE.index("vertex")
            shown = {
                "net, with a vertex": (score, vertex),
                "vertex finding": (radius, vertex),
                "net, two layers, no vertex": (score, coverage == 2),
            }
            for text, (value, rows) in shown.items():
                x, y = roc(value[rows], sample.truth[rows] == 1)
                axis.plot(x, y, label=text)
            axis.set(
                xlabel="axis kept", ylabel="wall kept", title=f"{name}: {len(sample):,} events"
            )
            axis.legend(fontsize=11)
    return path


def areas(path: Path, samples: Mapping[str, Annihilations], found: Mapping[str, Any]) -> Path:
    """Draw the area under the curve by class of coverage: models, baseline, published."""
    with figure(path, 1, 1, (11, 7)) as (axis,):
        place = np.arange(len(_TITLES))
        for name in samples:
            for model, table in found[name]["models"].items():
                if model.endswith(("-int8", "-fp16")):
                    continue  # on top of the net they come from
                y = [table.get(f"auc_{kind}", np.nan) for kind in _TITLES]
                axis.plot(place, y, _MARKS.get(name, "s:"), label=f"{model}, {name}")
            axis.plot(0, found[name]["vertex_finding"]["auc_vertex"], "x", ms=10,
                      label=f"vertex finding, {name}")  # fmt: skip
        published = [found["published"][f"auc_{kind}"] for kind in _TITLES]
        axis.plot(place, published, "k_", ms=40, mew=3, label="published")
        axis.set_xticks(place, list(_TITLES.values()))
        axis.set(ylabel="area under the curve", xlim=(-0.4, 4.2))
        axis.legend(fontsize=10)
    return path


def _clusters(view: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the number of clusters of each event, and the width of each cluster."""
    edges = np.diff(np.pad(view.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    begins, ends = np.nonzero(edges == 1), np.nonzero(edges == -1)
    return np.bincount(begins[0], minlength=len(view)), ends[1] - begins[1]
