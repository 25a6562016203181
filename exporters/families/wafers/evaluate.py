"""Evaluation of the shipped wafer models: the tables of `sluice evaluate wafers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.exporters.conversion.multiply_adds import multiply_adds
from sluice.exporters.conversion.onnx_runner import Runner, runner
from sluice.exporters.evaluation.classifier import auc
from sluice.exporters.evaluation.reference_data import find_study, folder
from sluice.exporters.families.base import EvaluateOptions
from sluice.exporters.families.wafers.coders.compare import Codec
from sluice.exporters.families.wafers.coders.fixed_point import BITS_BY_LINKS
from sluice.pipeline.inference.repository import all_models, find_model

from . import data, manifest_metrics, measured_files, metrics
from .coders import compare, nested
from .data import Wafers
from .manifest_metrics import SEED
from .surrogates import pairs

#: Pairs of each kind, and of all kinds for what is timed.
PAIRS, TIMED = 1_000, 1_024
_DIGESTS = "training-digests.npz"
_SPARSE = {"electron": "electron_pt20_eta15-30_0PU.csv", "jet": "jet_pt20_eta15-30_0PU.csv"}
#: Crossings of top pairs as the chip receives them: no net was trained on any.
_TOPS = Path("econt") / "testInput.csv"


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Measure the models in the repository; draw plots if asked.

    Parameters
    ----------
    options
        Options; `data` is a CSV file of charges, simulated wafers without it. Wafers that
        were trained on are left out.

    Returns
    -------
    dict
        ``models``: figures of each model file with their standard errors; the tables
        ``surrogates``, ``codecs``, ``gains``, ``exact``, ``tagger``, ``widths`` and ``sample``.
    """
    runners = models()
    seen = known()
    whole = (
        measured_files.read_csv(options.data) if options.data else data.simulated(20_000, SEED, 0.5)
    )
    sample = metrics.held_out(whole, seen)
    codecs = all_codecs(runners, data.threshold(sample))
    found = {
        "models": manifest_metrics.measure(runners),
        "surrogates": surrogates(runners, samples(sample, seen)),
        "codecs": [metrics.codec(codec, data.threshold(sample)) for codec in codecs],
        "gains": gains(codecs, data.threshold(sample)),
        "exact": exact(sample),
        "tagger": tagger(runners, seen),
        "widths": nested.table(
            runners, data.threshold(sample), data.simulated(manifest_metrics.EVENTS, SEED, 0.5)
        ),
        "sample": {"rows": len(whole), "unseen": len(sample), "hard": len(data.threshold(sample))},
    }
    if options.plots is not None:
        from . import plots

        plots.draw(options.plots, found, codecs, data.threshold(sample))
    return found


def models() -> dict[str, Runner]:
    """Return the models of the family by name."""
    names = {folder.parent.name for folder in all_models()}
    return {n: runner(find_model(n).path) for n in sorted(names) if n.startswith("wafer-")}


def known() -> NDArray[np.uint64]:
    """Return the digests of the measured wafers that the models were trained on."""
    with np.load(find_study("wafers") / _DIGESTS, allow_pickle=False) as file:
        seen: NDArray[np.uint64] = file["seen"]
    return seen


def all_codecs(runners: Mapping[str, Runner], sample: Wafers) -> list[Codec]:
    """Return every codec, those of the chip first."""
    compared = compare.compared(find_study("wafers"))
    return [*compare.classical(sample), *compared, *manifest_metrics.shipped(runners).values()]


def gains(codecs: Sequence[Codec], sample: Wafers) -> list[dict[str, Any]]:
    """Compare encoders of neighbouring losses, at each number of links."""
    held = {(codec.name, codec.links): codec for codec in codecs}
    order = [f"encoder-{kind}" for kind in ("emd", "telescope", "mse")]
    return [
        metrics.gain(held[better, links], held[worse, links], sample)
        for better, worse in pairwise(order)
        for links in BITS_BY_LINKS
        if {(better, links), (worse, links)} <= held.keys()
        and len(held[better, links].decode) == len(held[worse, links].decode)
    ]


def samples(given: Wafers, seen: NDArray[np.uint64]) -> dict[str, Wafers]:
    """Return the wafers that surrogates are tested on, by a prefix for their kinds of pairs."""
    found = {"": given, "simulated/": data.simulated(4_000, SEED, 0.5)}
    for name, file in _SPARSE.items():
        measured = measured_files.measured(file)
        if measured is not None:
            found[f"{name}/"] = metrics.held_out(measured, seen)
    tops = measured_files.crossings(folder() / _TOPS)
    if tops is not None:
        found["ttbar/"] = tops
    return found


def surrogates(runners: Mapping[str, Runner], found: Mapping[str, Wafers]) -> dict[str, Any]:
    """Return cost and precision of every surrogate."""
    coders = manifest_metrics.shipped(runners)
    decoders = {f"encoder-{BITS_BY_LINKS[n]}b": one.decode[0] for n, one in coders.items()}
    regimes: metrics.Regimes = {}
    for prefix, sample in found.items():
        of_sample = metrics.pair_regimes(sample, decoders, SEED, PAIRS)
        regimes |= {f"{prefix}{kind}": held for kind, held in of_sample.items()}
    regimes["mixed"] = _mixed(found)
    p, q = (np.resize(column, (TIMED, 48)).astype(np.float32) for column in regimes["random"][:2])
    table = {}
    for name in (name for name in runners if name.startswith("wafer-emd")):
        run = partial(runners[name], p, q)
        table[name] = {
            "multiply_adds": multiply_adds(find_model(name).path),
            "seconds_per_pair": metrics.seconds_a_row(run, TIMED),
            "regimes": metrics.surrogate_errors(runners[name], regimes),
        }
    return table


def exact(sample: Wafers) -> dict[str, float]:
    """Compare the exact kernel with POT, on pairs of every kind: the worst error and the speed."""
    rng = np.random.default_rng(SEED)
    p = pairs.fractions(np.resize(sample.charge, (40 * len(pairs.PAIR_KINDS), 48)))
    q = pairs.mixed(p, rng)
    p, q = np.concatenate([p, np.eye(48)]), np.concatenate([q, np.roll(np.eye(48), 5, 1)])
    distance, truth = pairs.exact(p, q), pairs.oracle(p, q)
    error = np.abs(distance - truth) / np.maximum(truth, 1e-9)
    kernel = metrics.seconds_a_row(lambda: pairs.exact(p, q), len(p))
    pot = metrics.seconds_a_row(lambda: pairs.oracle(p, q), len(p), repeats=2)
    return {
        "max_relative_error": float(error.max()),
        "speedup_over_pot": pot / kernel,
        "seconds_per_pair": kernel,
        "pot_seconds_per_pair": pot,
    }


def tagger(runners: Mapping[str, Runner], seen: NDArray[np.uint64]) -> dict[str, float]:
    """Measure the latent tagger: electrons against jets of the measured files, if present."""
    net, encoder = runners["wafer-tagger"], runners["wafer-encoder-9b"]
    simulated = data.simulated(manifest_metrics.EVENTS, SEED, 0.5)
    found = {f"simulated_{k}": v for k, v in metrics.tagging(net, encoder, simulated).items()}
    held = [measured_files.measured(file) for file in _SPARSE.values()]
    score, kind = [], []
    for index, sample in enumerate(held):
        if sample is not None:
            tags = metrics.score_tagger(net, encoder, metrics.held_out(sample, seen))
            score.append(tags[:, 0] / np.maximum(tags[:, 0] + tags[:, 1], 1e-9))
            kind.append(np.full(len(tags), index == 0))
    if len(score) == len(_SPARSE):
        positive = np.concatenate(kind)
        found["auc"] = auc(np.concatenate(score), positive)
        found["n"] = len(positive)
    return found


def _mixed(found: Mapping[str, Wafers]) -> tuple[pairs.F64, pairs.F64, pairs.F64]:
    # Wafers of one sample with wafers of another: busy ones with nearly empty ones.
    rng = np.random.default_rng(SEED)
    charge = np.concatenate(
        [s.charge[rng.permutation(len(s))[: PAIRS // len(found)]] for s in found.values()]
    )
    p = pairs.fractions(charge)
    q = rng.permutation(p)
    distance = pairs.exact(p, q)
    some = distance > 1e-3
    return p[some], q[some], distance[some]
