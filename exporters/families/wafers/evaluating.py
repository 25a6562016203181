"""How good the shipped wafer models are, on simulated and on measured wafers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sluice.exporters.families import EvaluateOptions
from sluice.exporters.inference import runner
from sluice.pipeline.manifest import find_model

from . import data, metrics
from .data import Wafers
from .metrics import Chain, Metrics

MODELS = ("wafer-encoder-9b", "wafer-decoder-9b", "wafer-tagger", "wafer-emd")
#: Measured wafers with pile-up, on which codecs are compared where the file is there.
MEASURED = "CALQ_output.csv"
EVENTS = 20_000
#: Apart from every seed that a recipe trains with.
SEED = 977


def chain_of(runners: Mapping[str, Callable[..., Any]]) -> Chain:
    """Return the models, by name in the repository, as a chain."""
    return Chain(*(runners[name] for name in MODELS))


def measure(chain: Chain, sample: Wafers, seed: int) -> dict[str, Metrics]:
    """Return the metrics of each model by its name.

    Parameters
    ----------
    chain
        The models.
    sample
        Simulated wafers that no model was trained on.
    seed
        Of the choice of pairs.
    """
    encoder, _, tagger, emd = MODELS
    found = {
        encoder: metrics.codec(chain, sample),
        tagger: metrics.tagging(chain, sample),
        emd: metrics.surrogate(chain, sample, seed),
    }
    measured = data.measured(MEASURED)
    if measured is not None:
        found[encoder] |= _prefixed("measured", metrics.codec(chain, measured))
        found[emd] |= _prefixed("measured", metrics.surrogate(chain, measured, seed))
    return found


def evaluate(options: EvaluateOptions) -> dict[str, float]:
    """Measure the models in the repository; draw plots if asked.

    Parameters
    ----------
    options
        Its `data` is a CSV file of charges, measured beside the simulated wafers.

    Returns
    -------
    dict
        ``<model>.<metric>`` to value; ``data_<metric>`` for the given file.
    """
    chain = chain_of({name: runner(find_model(name).path) for name in MODELS})
    sample = data.simulated(EVENTS, SEED, coded=0.5)
    found = measure(chain, sample, SEED)
    flat = {
        f"{model}.{key}": value for model, table in found.items() for key, value in table.items()
    }
    if options.data is not None:
        given = data.read_csv(options.data)
        flat |= _prefixed("data", metrics.codec(chain, given))
        flat |= _prefixed("data", metrics.surrogate(chain, given, SEED))
    if options.plots is not None:
        from . import plots

        plots.spectra(options.plots)
    return flat


def _prefixed(prefix: str, table: Metrics) -> Metrics:
    return {f"{prefix}_{key}": value for key, value in table.items()}
