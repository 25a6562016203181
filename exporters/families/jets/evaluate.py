"""The evaluation of the jets family: every table of its page, from repository and study."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from sluice.exporters.conversion.onnx_runner import Runner, runner
from sluice.exporters.evaluation.classifier import auc, mean_and_spread
from sluice.exporters.evaluation.reference_data import find_study
from sluice.exporters.evaluation.shipped_models import measure_models
from sluice.exporters.evaluation.uncertainty import auc_error, bootstrap_errors
from sluice.exporters.families.base import EvaluateOptions
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.inference.repository import find_family_models

from . import metrics
from .data import HELD_OUT, Array, Jets
from .scoring import Score, samples, score_of
from .study import archive
from .trainings import SOUGHT, Net, Trained, nets

#: Nets whose spread over seeds the tables show.
COMPARED = ("plain", "adversarial", "disco", "narrow")
#: Relative uncertainties of the background, and the jets expected before any cut.
UNCERTAINTIES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
SIGNAL, BACKGROUND = 500.0, 100_000.0
#: Bins of the fit, GeV, and the efficiencies among which a cut is chosen.
_FIT = np.arange(50.0, 300.1, 10.0)
_EFFICIENCIES = np.arange(0.2, 0.96, 0.05)
_SEED = 5


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Return all tables; draw them where asked.

    Raises
    ------
    ConfigError
        If data are given: the family is measured on the test jets of its study.
    """
    if options.data is not None:
        raise ConfigError(
            "jets: --data: expected none",
            "the test jets are in the study: studies/jets/test-jets.npz",
        )
    recipe, test, taggers = archive.read(find_study("jets"))
    known = {net.name: net for net in nets(recipe)}
    found = {
        "jets": 2 * recipe.chunk * recipe.blocks,
        "test_jets": len(test),
        "signal_efficiency": metrics.EFFICIENCY,
        "table": {name: table(known[name], taggers, test) for name in COMPARED},
        "noise_of_inverse_jsd": noise(test),
        "scan": scan(known, taggers, test),
        "significance": {
            name: discoveries(known[name], taggers, test) for name in COMPARED if name != "narrow"
        },
        "masses": masses(known, taggers, test),
        "models": models(test),
    }
    if options.plots is not None:
        from .plots import draw

        draw(options.plots, found, known, taggers, test)
    return found


SHIPPED = {
    "plain": "jet-tagger-plain",
    "adversarial": "jet-tagger-adversarial",
    "disco": "jet-tagger-disco",
    "narrow": "jet-tagger-narrow",
}
PARAMETRISED = "jet-tagger-parametrised"


def figures(score: Score, test: Jets, resonance: int) -> dict[str, float]:
    """Return AUC, rejection and 1/JSD of one tagger."""
    signal, background = samples(test, resonance)
    return _figures(score(signal), score(background), background.mass)


def _figures(signal: Array, background: Array, mass: Array) -> dict[str, float]:
    """Return the figures from scores; `mass` is the background's, GeV."""
    return {"auc": auc(*_joined(signal, background)), **_cut_figures(signal, background, mass)}


def _joined(signal: Array, background: Array) -> tuple[Array, Array]:
    """Return the scores of both classes, and which are of the signal."""
    truth = np.concatenate([np.ones(len(signal), bool), np.zeros(len(background), bool)])
    return np.concatenate([signal, background]), truth


def _cut_figures(signal: Array, background: Array, mass: Array) -> dict[str, float]:
    """Return what a cut at `metrics.EFFICIENCY` does."""
    sculpted = metrics.sculpting(background, mass, metrics.threshold(signal))
    return {
        "rejection": metrics.rejection(signal, background),
        "inverse_jsd": 1.0 / max(sculpted, 1e-9),
    }


def table(
    net: Net, taggers: Mapping[str, Trained], test: Jets, resonance: int = SOUGHT
) -> dict[str, float]:
    """Return a net's figures with their spread over seeds."""
    return mean_and_spread(
        [
            figures(score_of(taggers[s], net, resonance), test, resonance)
            for s in archive.checkpoint_names(net)
        ]
    )


def noise(test: Jets) -> dict[str, float]:
    """Return the 1/JSD of a cut independent of the mass, for two rejections: the noise."""
    _, background = samples(test, SOUGHT)
    rng = np.random.default_rng(_SEED)
    score = rng.random(len(background))
    return {
        f"rejection_{n}": 1.0 / metrics.min_sculpting(score, background.mass, 1.0 - 1.0 / n, rng)
        for n in (5, 10, 20)
    }


def scan(
    known: Mapping[str, Net], taggers: Mapping[str, Trained], test: Jets
) -> list[dict[str, Any]]:
    """Return the figures of each weight of the adversary and of the distance correlation."""
    return [
        {"means": net.means, "weight": net.weight, **table(net, taggers, test)}
        for net in known.values()
        if net.means and not net.parametrised and not net.narrow
    ]


def discoveries(net: Net, taggers: Mapping[str, Trained], test: Jets) -> dict[str, Any]:
    """Return Z against the background's uncertainty: by counting, and by a fit of the mass."""
    scores = [score_of(taggers[stem], net, SOUGHT) for stem in archive.checkpoint_names(net)]
    cuts = [_spectra(score, test) for score in scores]
    found: dict[str, Any] = {}
    for sigma in UNCERTAINTIES:
        runs = []
        for spectra in cuts:
            fit = [metrics.significance(s, b, sigma) for s, b in spectra]
            total = [
                metrics.significance(s.sum(keepdims=True), b.sum(keepdims=True), sigma)
                for s, b in spectra
            ]
            runs.append({"counting": max(total), "fit": max(fit)})
        found[f"{sigma:g}"] = mean_and_spread(runs)
    return found


def _spectra(score: Score, test: Jets) -> list[tuple[Array, Array]]:
    """Return the expected mass spectra of signal and background for each cut."""
    signal, background = samples(test, SOUGHT)
    s, b = score(signal), score(background)
    found = []
    for efficiency in _EFFICIENCIES:
        cut = metrics.threshold(s, float(efficiency))
        first = np.histogram(signal.mass[s > cut], _FIT)[0] * (SIGNAL / len(signal))
        second = np.histogram(background.mass[b > cut], _FIT)[0] * (BACKGROUND / len(background))
        found.append((first, second))
    return found


def masses(
    known: Mapping[str, Net], taggers: Mapping[str, Trained], test: Jets
) -> list[dict[str, Any]]:
    """Return the figures of the parametrised nets at each resonance, one of which was held out."""
    found = []
    for mass in sorted({int(m) for m in test.resonance} - {0}):
        row: dict[str, Any] = {"resonance": mass, "held_out": mass == HELD_OUT}
        for name in ("parametrised", "parametrised-adversarial", "plain"):
            row[name] = table(known[name], taggers, test, mass)
        if mass == HELD_OUT:
            row["dedicated"] = table(known["dedicated"], taggers, test, mass)
        found.append(row)
    return found


def models(test: Jets) -> dict[str, dict[str, float]]:
    """Return the figures of each model file, through ONNX Runtime, with their standard errors."""
    nets = {model.manifest.name: runner(model.path) for model in find_family_models("jets")}
    return measure_models(nets, partial(measured, test=test))


def measured(model: str, net: Runner, test: Jets) -> dict[str, float]:
    """Return the figures of one model with their standard errors; at `HELD_OUT` if parametrised."""
    if model == PARAMETRISED:
        sought = np.float32(HELD_OUT)
        return _with_errors(lambda jets: net(jets.x, np.full(len(jets), sought)), test, HELD_OUT)
    return _with_errors(lambda jets: net(jets.x), test, SOUGHT)


def _with_errors(score: Score, test: Jets, resonance: int) -> dict[str, float]:
    signal, background = samples(test, resonance)
    s, b = score(signal), score(background)

    def drawn(of_signal: Array, of_background: Array) -> dict[str, float]:
        return _cut_figures(s[of_signal], b[of_background], background.mass[of_background])

    errors = bootstrap_errors(drawn, len(s), len(b))
    return _figures(s, b, background.mass) | {"auc_error": auc_error(*_joined(s, b)), **errors}
