"""Plots of the wafer family."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import LABELS, data
from .data import Wafers
from .simulate import charges

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EVENTS = 50_000
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
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import mplhep

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
        style = {"histtype": "step", "density": True, "linewidth": 2, "label": name}
        held = sample.charge[sample.charge > 0]
        axes[0].hist((sample.charge > 0).sum(1), np.arange(0.5, 49.5), **style)
        axes[1].hist(held, np.geomspace(1, 2e4, 60), **style)
        axes[2].hist(sample.total, np.geomspace(1, 1e5, 60), **style)
    for axis, name in zip(
        axes, ("cells with charge", "cell charge (ADC)", "module sum (ADC)"), strict=True
    ):
        axis.set_xlabel(name)
        axis.set_ylabel("density")
    for axis in axes[1:]:
        axis.set(xscale="log", yscale="log")
    axes[0].legend()
