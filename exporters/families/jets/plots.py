"""Plots of the jets family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import mplhep
import numpy as np
from matplotlib.figure import Figure

from sluice.kernels.jets.observables import OBSERVABLES

from . import metrics
from .data import Jets
from .scoring import samples, score_of
from .trainings import SOUGHT, Net, Trained

_COLOURS = {"plain": "tab:red", "adversarial": "tab:blue", "disco": "tab:green"}
_MASS_COLOURS = {
    "parametrised": "tab:red",
    "parametrised-adversarial": "tab:blue",
    "plain": "tab:gray",
}


def draw(
    folder: Path,
    found: Mapping[str, Any],
    known: Mapping[str, Net],
    taggers: Mapping[str, Trained],
    test: Jets,
) -> list[Path]:
    """Draw all plots of an evaluation into `folder`; return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Callable[[], Figure]] = {
        "observables": lambda: _observables(test),
        "sculpting": lambda: _sculpting(known, taggers, test),
        "trade": lambda: _trade(found),
        "significance": lambda: _significance(found),
        "masses": lambda: _masses(found),
    }
    written = []
    with plt.style.context(mplhep.style.ATLAS):
        for name, make in figures.items():
            figure = make()
            path = folder / f"jets-{name}.png"
            figure.savefig(path, dpi=110, bbox_inches="tight")
            plt.close(figure)
            written.append(path)
    return written


def _observables(test: Jets) -> Figure:
    signal, background = samples(test, SOUGHT)
    figure, axes = plt.subplots(2, 5, figsize=(20, 7))
    for column, (name, axis) in enumerate(zip(OBSERVABLES, axes.flat, strict=True)):
        both = np.concatenate([signal.x[:, column], background.x[:, column]])
        low, high = (float(np.quantile(both, share)) for share in (0.005, 0.985))
        edges = np.linspace(low, high, 41)
        for jets, label in ((background, "QCD"), (signal, f"resonance, {SOUGHT} GeV")):
            counts = np.histogram(jets.x[:, column], edges)[0]
            mplhep.histplot(counts, edges, ax=axis, density=True, label=label)
        axis.set_xlabel(name)
        axis.set_yticks([])
    axes.flat[0].legend(fontsize=11)
    return figure


def _sculpting(known: Mapping[str, Net], taggers: Mapping[str, Trained], test: Jets) -> Figure:
    signal, background = samples(test, SOUGHT)
    figure, axis = plt.subplots(figsize=(8, 6))
    counts = np.histogram(background.mass, metrics.EDGES)[0]
    mplhep.histplot(
        counts, metrics.EDGES, ax=axis, density=True, histtype="fill", color="lightgray",
        label="all QCD jets",
    )  # fmt: skip
    for name, colour in _COLOURS.items():
        score = score_of(taggers[f"{name}-0"], known[name], SOUGHT)
        passed = score(background) > metrics.threshold(score(signal))
        counts = np.histogram(background.mass[passed], metrics.EDGES)[0]
        mplhep.histplot(
            counts, metrics.EDGES, ax=axis, density=True, color=colour, label=f"tagged, {name}"
        )
    axis.set_xlabel("trimmed jet mass (GeV)")
    axis.set_ylabel("QCD jets, normalised")
    axis.legend(fontsize=12)
    return figure


def _trade(found: Mapping[str, Any]) -> Figure:
    figure, axis = plt.subplots(figsize=(8, 6))
    for means, colour in (("adversary", "tab:blue"), ("disco", "tab:green")):
        rows = sorted(
            (row for row in found["scan"] if row["means"] == means), key=lambda row: row["weight"]
        )
        x, y = ([row[name] for row in rows] for name in ("rejection", "inverse_jsd"))
        axis.plot(x, y, "o-", color=colour, label=means)
        for row in rows:
            place = (row["rejection"], row["inverse_jsd"])
            axis.annotate(f" {row['weight']:g}", place, fontsize=10)
    plain = found["table"]["plain"]
    axis.plot(plain["rejection"], plain["inverse_jsd"], "s", color="tab:red", label="plain")
    limits = found["noise_of_inverse_jsd"]
    places = [float(name.removeprefix("rejection_")) for name in limits]
    axis.plot(places, list(limits.values()), "k--", label="noise of so many jets")
    axis.set_xlabel("background rejection at 50 % signal efficiency")
    axis.set_ylabel("1 / JSD")
    axis.set_yscale("log")
    axis.legend(fontsize=12)
    return figure


def _significance(found: Mapping[str, Any]) -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(14, 5.5), sharey=True)
    for axis, way in zip(axes, ("counting", "fit"), strict=True):
        for name, colour in _COLOURS.items():
            rows = found["significance"][name]
            sigma = [100.0 * float(one) for one in rows]
            middle = np.array([row[way] for row in rows.values()])
            spread = np.array([row.get(f"{way}_spread", 0.0) for row in rows.values()])
            axis.plot(sigma, middle, "o-", color=colour, label=name)
            axis.fill_between(sigma, middle - spread, middle + spread, color=colour, alpha=0.25)
        axis.set_xscale("symlog", linthresh=1.0)
        axis.set_xlabel("background uncertainty (%)")
        axis.set_title("jets counted" if way == "counting" else "mass spectrum fitted")
    axes[0].set_ylabel("expected significance Z")
    axes[0].legend(fontsize=12)
    return figure


def _masses(found: Mapping[str, Any]) -> Figure:
    figure, axis = plt.subplots(figsize=(8, 6))
    rows = found["masses"]
    mass = [row["resonance"] for row in rows]
    for name, colour in _MASS_COLOURS.items():
        label = f"trained on {SOUGHT} GeV alone" if name == "plain" else name
        y = [row[name]["rejection"] for row in rows]
        error = [row[name].get("rejection_spread", 0.0) for row in rows]
        axis.errorbar(mass, y, error, fmt="o-", color=colour, label=label)
    for row in rows:
        if "dedicated" in row:
            one = row["dedicated"]
            axis.errorbar(
                row["resonance"], one["rejection"], one.get("rejection_spread", 0.0), fmt="k*",
                markersize=14, label="trained on 125 GeV alone; the others never saw it",
            )  # fmt: skip
    axis.set_xlabel("resonance mass (GeV)")
    axis.set_ylabel("background rejection at 50 % signal efficiency")
    axis.legend(fontsize=11)
    return figure
