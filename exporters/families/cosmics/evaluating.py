"""How good the cosmics models are: the tables of `sluice evaluate cosmics`."""

from __future__ import annotations

from typing import Any

import numpy as np

from sluice.exporters.families import EvaluateOptions
from sluice.exporters.families.antihydrogen.data import unpacked
from sluice.exporters.inference import runner
from sluice.pipeline.errors import ConfigError, ModelError
from sluice.pipeline.repository import find_models_of

from . import LABELS, data

#: Simulated readouts that no training sees, and their seed.
EVENTS, SEED = 20_000, 90_312


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Measure the models in the repository on simulated readouts.

    Returns
    -------
    dict
        ``events``; by class, ``bars`` and ``two_layers``: how many bars fire, and how often both
        layers of strips do; ``models`` and ``trainings``: figures of what ships, and their mean
        and spread over the trainings.

    Raises
    ------
    ConfigError
        If data or plots are asked for: there are none.
    """
    if options.data is not None or options.plots is not None:
        raise ConfigError("cosmics: --data and --plots: there are none", "leave them out")
    models = find_models_of("cosmics")
    if not models:
        raise ModelError("family cosmics: no model in the repository", "`sluice export` it")
    sample = data.simulated(EVENTS, SEED)
    fired, layers = (sample.bars > 0).sum(1), unpacked(sample.strips)[2]
    found: dict[str, Any] = {"events": len(sample)}
    for label, name in enumerate(LABELS):
        rows = sample.truth == label
        found[name] = {
            "bars": float(fired[rows].mean()),
            "two_layers": float(np.mean(layers[rows] == 2)),
        }
    found["models"] = {
        m.manifest.name: data.figures(runner(m.path), [t.name for t in m.manifest.inputs], sample)
        for m in models
    }
    found["trainings"] = {m.manifest.name: m.manifest.metrics for m in models}
    return found
