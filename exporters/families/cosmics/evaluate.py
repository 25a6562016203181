"""Evaluation of the cosmics models: the tables of `sluice evaluate cosmics`."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from sluice.exporters.conversion.onnx_runner import runner
from sluice.exporters.families.base import EvaluateOptions
from sluice.pipeline.core.errors import ConfigError, ModelError
from sluice.pipeline.inference.repository import find_family_models

from . import LABELS, data, metrics
from .data import Readouts

#: Simulated readouts that no training sees, and their seed.
EVENTS, SEED = 20_000, 90_311


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Measure the models in the repository on simulated readouts; draw plots if asked.

    Returns
    -------
    dict
        ``events``; by class, ``bars`` and ``two_layers``: how many bars fire, and how often both
        layers of strips do; ``models``: figures of each model file, with their standard errors.

    Raises
    ------
    ConfigError
        If measured data are given: none can be read.
    """
    if options.data is not None:
        raise ConfigError("cosmics: --data: expected none, got a file", "leave it out")
    models = {m.manifest.name: m for m in find_family_models("cosmics")}
    if not models:
        raise ModelError("family cosmics: no model in the repository", "`sluice export` it")
    sample = data.simulated(EVENTS, SEED)
    fired, tracked = (sample.bars > 0).sum(1), metrics.selections(sample)["_two_layers"]
    found: dict[str, Any] = {"events": len(sample)}
    for label, name in enumerate(LABELS):
        rows = sample.truth == label
        found[name] = {
            "bars": float(fired[rows].mean()),
            "two_layers": float(tracked[rows].mean()),
        }
    scores = {
        name: data.scores(runner(m.path), [t.name for t in m.manifest.inputs], sample)
        for name, m in models.items()
    }
    found["models"] = {name: measured(score, sample) for name, score in scores.items()}
    if options.plots is not None:
        from . import plots

        plots.draw(options.plots, scores, sample, found)
    return found


def measured(score: NDArray[Any], sample: Readouts) -> dict[str, float]:
    """Return the figures of a model from its (N,) scores, with their standard errors."""
    return metrics.figures(score, sample) | metrics.errors(score, sample)
