"""Evaluation of the antihydrogen models: the tables of `sluice evaluate antihydrogen`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sluice.exporters.conversion.onnx_runner import Runner, runner
from sluice.exporters.evaluation.shipped_models import with_losses
from sluice.exporters.families.base import EvaluateOptions
from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.inference.repository import find_family_models, find_model

from . import data, detector, metrics
from .data import Annihilations

#: Simulated events that no training sees, and their seed.
EVENTS, SEED = 40_000, 90_210
#: Annihilations in the middle of the strips: where no event of the training sample is.
ELSEWHERE = {detector.Z_MEAN: 223.0}


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Measure the models in the repository; draw plots if asked.

    Parameters
    ----------
    options
        Options; `data` is a table of events for `data.read`, to measure on as well.

    Returns
    -------
    dict
        ``toy``, ``elsewhere`` (the toy at another z) and, where they are, ``real`` and ``given``:
        of each sample the tables
        ``coverage``, ``clusters``, ``vertex_finding`` and, by model, areas under the curve with
        their standard errors; ``models``, those on the toy with the losses of variants;
        ``published``.
    """
    models = {m.manifest.name: m for m in find_family_models("antihydrogen")}
    if not models:
        raise ModelError("family antihydrogen: no model in the repository", "`sluice export` it")
    nets = {name: runner(model.path) for name, model in models.items()}
    samples = {
        "toy": data.simulated(EVENTS, SEED),
        "elsewhere": data.simulated(EVENTS, SEED, toy=ELSEWHERE),
    }
    real = [one for name in data.FILES if (one := data.real(name)) is not None]
    if real:
        samples["real"] = data.joined(real)
    if options.data:
        samples["given"] = data.read(options.data)
    found: dict[str, Any] = {name: measured(nets, one) for name, one in samples.items()}
    found["models"] = with_losses(found["toy"]["models"])
    found["published"] = published()
    if options.plots is not None:
        from . import plots

        plots.draw(Path(options.plots), nets, samples, found)
    return found


def measured(nets: Mapping[str, Runner], sample: Annihilations) -> dict[str, Any]:
    """Return the tables of one sample."""
    return {
        "events": len(sample),
        "coverage": metrics.shares(sample),
        "clusters": metrics.clusters(sample),
        "vertex_finding": metrics.baseline(sample),
        "models": {name: areas(net, sample) for name, net in nets.items()},
    }


def areas(net: Runner, sample: Annihilations) -> dict[str, float]:
    """Return the areas under a net's curve by class of coverage, with their standard errors."""
    score = metrics.scores(net, sample)
    return metrics.by_coverage(score, sample) | metrics.errors(score, sample)


def published() -> dict[str, float]:
    """Return the published numbers: coverage, the vertex finding, and the net."""
    card = find_model("antihydrogen").manifest.card
    return {
        "none": 0.20, "one_layer": 0.07, "two_layers": 0.48, "vertex": 0.25,
        "vertex_finding_auc_vertex": 0.76, **{one.metric: one.value for one in card.published},
    }  # fmt: skip
