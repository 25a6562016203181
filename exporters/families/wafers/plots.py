"""Plots of the wafer family."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import mplhep
import numpy as np
from matplotlib.axes import Axes

from . import LABELS, data
from .data import Wafers
from .simulate import charges

_EVENTS = 50_000
_QUANTITIES = ("cells with charge", "cell charge (ADC)", "module sum (ADC)")
_EDGES = (np.arange(0.5, 49.5), np.geomspace(1, 2e4, 60), np.geomspace(1, 1e5, 60))
#: Which measured file each simulated class stands for.
COUNTERPARTS = {
    "electromagnetic": "electron_pt20_eta15-30_0PU.csv",
    "hadronic": "jet_pt20_eta15-30_0PU.csv",
    "pileup": "CALQ_output.csv",
}


def spectra(folder: Path, seed: int = 1) -> Path:
    """Draw occupancy, cell charge and module sum of simulated wafers beside measured ones.

    Parameters
    ----------
    folder
        Where ``spectra.png`` goes.
    seed
        Of the simulation.

    Returns
    -------
    Path
        The file.
    """
    truth, charge = charges(_EVENTS, seed)
    with plt.style.context(mplhep.style.CMS), plt.rc_context({"font.size": 12, "figure.dpi": 100}):
        figure, axes = plt.subplots(3, 3, figsize=(18, 15), layout="constrained")
        for index, label in enumerate(LABELS):
            simulated = data.wafers(charge[truth == index])
            _row(axes[index], simulated, data.measured(COUNTERPARTS[label]), label)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "spectra.png"
        figure.savefig(path)
        plt.close(figure)
    return path


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
