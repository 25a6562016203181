"""Plots of the wafer family: the simulation, the codecs and the surrogates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mplhep
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from sluice.exporters.evaluation.plot_style import figure
from sluice.exporters.families.wafers.coders.compare import Codec
from sluice.exporters.families.wafers.simulation.wafers import charges

from . import LABELS, data, measured_files, metrics
from .data import Wafers

_EVENTS = 50_000
_QUANTITIES = ("cells with charge", "cell charge (ADC)", "module sum (ADC)")
_EDGES = (np.arange(0.5, 49.5), np.geomspace(1, 2e4, 60), np.geomspace(1, 1e5, 60))
#: Which measured file each simulated class stands for.
COUNTERPARTS = {
    "electromagnetic": "electron_pt20_eta15-30_0PU.csv",
    "hadronic": "jet_pt20_eta15-30_0PU.csv",
    "pileup": "CALQ_output.csv",
}
#: Codecs that the plots against occupancy and charge show, at five links.
_SHOWN = (
    "encoder-mse",
    "encoder-telescope",
    "encoder-emd",
    "encoder-shipped",
    "best-choice",
    "best-choice-spread",
    "stc4",
)
_LINKS = 5
_CHIP = {"best-choice", "best-choice-spread", "stc4", "stc16", "threshold"}
_FEWEST = 10
_COLOURS = (
    *("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink"),
    *("tab:gray", "tab:olive", "tab:cyan", "black", "gold", "navy"),
)


def draw(
    folder: Path, found: Mapping[str, Any], codecs: Sequence[Codec], sample: Wafers
) -> list[Path]:
    """Draw all plots of an evaluation; return their files.

    Parameters
    ----------
    folder
        Folder to write the plots to.
    found
        The tables of the evaluation.
    codecs
        Codecs to show.
    sample
        The wafers that codecs are compared on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [
        spectra(folder),
        links(folder, found["codecs"]),
        dependence(folder, codecs, sample),
        cost(folder, found["surrogates"]),
    ]


def links(folder: Path, table: Sequence[Mapping[str, Any]]) -> Path:
    """Draw the mean EMD of each codec against the number of output links."""
    with figure(folder / "links.png", 1, 1, (9, 7), _COLOURS) as axes:
        for name in dict.fromkeys(line["codec"] for line in table):
            lines = [line for line in table if line["codec"] == name and line["elinks"] <= _LINKS]
            if lines:
                style = "s--" if name in _CHIP or name.endswith("-spread") else "o-"
                x, y, spread = (
                    [line[k] for line in lines] for k in ("elinks", "emd_mean", "emd_spread")
                )
                axes[0].errorbar(x, y, spread, fmt=style, capsize=3, label=name)
        axes[0].set(xlabel="output links of 32 bits", ylabel="mean EMD (unit-hex distance)")
        axes[0].set(yscale="log", xticks=[2, 3, 4, 5])
        axes[0].legend(fontsize=10, ncols=2)
    return folder / "links.png"


def dependence(folder: Path, codecs: Sequence[Codec], sample: Wafers) -> Path:
    """Draw EMD and charge response against occupancy and the logarithm of the charge."""
    occupancy = (sample.charge > 0).sum(1)
    size = np.log10(sample.total)
    with figure(folder / "dependence.png", 2, 3, (21, 13), _COLOURS) as axes:
        for codec in codecs:
            if codec.links == _LINKS and codec.name in _SHOWN:
                distance, response = metrics.distances(codec.decode[0], sample)
                back = (codec.decode[0](sample) >= 1.0).sum(1) - occupancy
                for row, value in enumerate((occupancy, size)):
                    for column, y in enumerate((distance, response, back)):
                        _profile(axes[3 * row + column], value, y, codec.name)
        for index, axis in enumerate(axes):
            axis.set_xlabel(("cells with charge", "log10 of module sum (ADC)")[index // 3])
            axis.set_ylabel(("mean EMD", "charge response", "cells gained or lost")[index % 3])
        axes[0].legend(fontsize=11)
    return folder / "dependence.png"


def cost(folder: Path, table: Mapping[str, Any]) -> Path:
    """Draw each surrogate's error, median and worst kind of pair, against its multiply-adds."""
    with figure(folder / "surrogates.png", 1, 1, (9, 7), _COLOURS) as axes:
        ranked = sorted(
            (entry["multiply_adds"], name, entry["regimes"]) for name, entry in table.items()
        )
        macs = [line[0] for line in ranked]
        errors = [[np.hypot(r["std"], r["bias"]) for r in line[2].values()] for line in ranked]
        axes[0].plot(macs, [100 * np.median(e) for e in errors], "o-", label="median kind of pair")
        axes[0].plot(macs, [100 * max(e) for e in errors], "s--", label="worst kind of pair")
        for (x, name, _), error in zip(ranked, errors, strict=True):
            axes[0].annotate(name, (x, 100 * np.median(error)), rotation=30, fontsize=10)
        axes[0].set(xscale="log", yscale="log", xlabel="multiply-adds a pair")
        axes[0].set_ylabel("relative error (%), RMS")
        axes[0].legend(fontsize=11)
    return folder / "surrogates.png"


def spectra(folder: Path, seed: int = 1) -> Path:
    """Draw occupancy, cell charge and module sum of simulated wafers beside measured ones."""
    truth, charge = charges(_EVENTS, seed)
    with figure(folder / "spectra.png", 3, 3, (18, 15), _COLOURS) as axes:
        for index, label in enumerate(LABELS):
            simulated = data.wafers(charge[truth == index])
            row = axes[3 * index : 3 * index + 3]
            _row(row, simulated, measured_files.measured(COUNTERPARTS[label]), label)
    return folder / "spectra.png"


def _row(axes: list[Axes], simulated: Wafers, measured: Wafers | None, label: str) -> None:
    samples = {f"{label}, simulated": simulated}
    if measured is not None:
        # Sparse files are mostly fringes of showers; wafers with a core compare.
        core = (
            measured if label == "pileup" else measured.part(np.flatnonzero(measured.total > 300))
        )
        samples[f"{COUNTERPARTS[label].removesuffix('.csv')}"] = core
    for name, sample in samples.items():
        values = ((sample.charge > 0).sum(1), sample.charge[sample.charge > 0], sample.total)
        for axis, column, edges in zip(axes, values, _EDGES, strict=True):
            mplhep.histplot(np.histogram(column, edges), ax=axis, density=True, label=name)
    for axis, quantity in zip(axes, _QUANTITIES, strict=True):
        axis.set_xlabel(quantity)
        axis.set_ylabel("density")
    for axis in axes[1:]:
        axis.set(xscale="log", yscale="log")
    axes[0].legend()


def _profile(axis: Axes, x: NDArray[Any], y: NDArray[Any], label: str) -> None:
    edges = np.linspace(x.min(), np.nextafter(x.max(), np.inf), 13)
    which = np.digitize(x, edges) - 1
    bins = [k for k in range(12) if (which == k).sum() >= _FEWEST]
    mean = [y[which == k].mean() for k in bins]
    error = [y[which == k].std() / np.sqrt((which == k).sum()) for k in bins]
    axis.errorbar((edges[:-1] + edges[1:])[bins] / 2, mean, error, fmt="o-", label=label)
