"""Metrics of codecs, surrogates and the tagger."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.exporters.conversion.onnx_runner import Runner
from sluice.exporters.evaluation.classifier import auc
from sluice.exporters.evaluation.uncertainty import auc_error, bootstrap_errors, share_error
from sluice.exporters.families.wafers import LABELS
from sluice.exporters.families.wafers.coders.compare import Codec, Decode, over_link
from sluice.exporters.families.wafers.surrogates.pairs import F32, F64

from . import measured_files
from .data import Wafers
from .surrogates import pairs

Metrics = dict[str, float]
Regimes = dict[str, tuple[F64, F64, F64]]
#: Pairs nearer than this are all rounding.
_NEAREST = 1e-3
_TAG_BITS = 9


def distances(decode: Decode, sample: Wafers) -> tuple[F64, F64]:
    """Return each wafer's exact EMD to its decoded self, and decoded over true charge.

    A wafer that comes back without any charge is as far as its charge is from the far edge of the
    wafer on average: its decoded self is taken as charge spread evenly.
    """
    charge = decode(sample).astype(np.float64)
    total = charge.sum(1)
    charge[total <= 0.0] = 1.0
    return pairs.exact(sample.fraction, charge), total / sample.charge.sum(1)


def codec(one: Codec, sample: Wafers) -> dict[str, Any]:
    """Return one line of the evaluation's table of codecs.

    Parameters
    ----------
    one
        The codec; its trainings are averaged, their spread is that of the mean EMD.
    sample
        Wafers that no training has seen.
    """
    found = [distances(decode, sample) for decode in one.decode]
    means = [float(distance.mean()) for distance, _ in found]
    response = np.concatenate([ratio for _, ratio in found])
    return {
        "codec": one.name,
        "elinks": one.links,
        "bits": one.bits,
        "emd_mean": float(np.mean(means)),
        "emd_median": float(np.mean([np.median(distance) for distance, _ in found])),
        "emd_spread": float(np.std(means, ddof=1)) if len(means) > 1 else 0.0,
        "response_mean": float(response.mean()),
        "response_rms": float(response.std()),
        "n": len(sample),
    }


def coding_errors(one: Codec, sample: Wafers) -> Metrics:
    """Return the standard errors of a codec's ``emd_mean``, ``emd_median``, ``response_mean``."""
    distance, response = distances(one.decode[0], sample)

    def drawn(rows: NDArray[np.int64]) -> Metrics:
        return {
            "emd_mean": float(distance[rows].mean()),
            "emd_median": float(np.median(distance[rows])),
            "response_mean": float(response[rows].mean()),
        }

    return bootstrap_errors(drawn, len(sample))


def gain(better: Codec, worse: Codec, sample: Wafers) -> dict[str, Any]:
    """Return the difference of two codecs' mean EMD, seed by seed.

    Encoders of one seed have one start, so that most of the spread between seeds is common to both.
    """
    below, above = (
        [distances(decode, sample)[0].mean() for decode in one.decode] for one in (better, worse)
    )
    gains = np.subtract(above, below)
    return {
        "better": better.name,
        "worse": worse.name,
        "elinks": better.links,
        "gain_mean": float(gains.mean()),
        "gain_spread": float(gains.std(ddof=1)) if len(gains) > 1 else 0.0,
        "seeds": len(gains),
    }


def pair_regimes(
    sample: Wafers, decoders: Mapping[str, Decode], seed: int, max_wafers: int
) -> Regimes:
    """Return pairs of every kind, (N, 48) and (N, 48) fractions, and their exact EMD, (N,).

    Parameters
    ----------
    sample
        Wafers that no surrogate has learnt from; `max_wafers` of them count.
    decoders
        Encoders with their decoders, by name.
    seed
        Seed of the random choice.
    """
    rng = np.random.default_rng(seed)
    chosen = sample.part(rng.permutation(len(sample))[:max_wafers])
    p = pairs.fractions(chosen.charge)
    others = {kind: partner(p, rng) for kind, partner in pairs.PAIR_KINDS.items()}
    others |= {name: pairs.fractions(decode(chosen)) for name, decode in decoders.items()}
    found: Regimes = {}
    for kind, q in others.items():
        distance = pairs.exact(p, q)
        some = distance > _NEAREST
        found[kind] = p[some], q[some], distance[some]
    return found


def surrogate_errors(emd: Runner, found: Regimes) -> dict[str, Metrics]:
    """Return a surrogate's relative error against the exact EMD, by kind of pair."""
    table = {}
    for kind, (p, q, distance) in found.items():
        if len(distance):
            error = emd(_f32(p), _f32(q)).astype(np.float64) / distance - 1.0
            bias, std = float(error.mean()), float(error.std())
            table[kind] = {"bias": bias, "std": std, "n": len(error)}
    return table


def tagging(tagger: Runner, encoder: Runner, sample: Wafers) -> Metrics:
    """Measure the tagger: accuracy, and the area under each class's curve against the rest."""
    score = score_tagger(tagger, encoder, sample)
    found = {"accuracy": float((score.argmax(1) == sample.truth).mean())}
    found["accuracy_error"] = share_error(found["accuracy"], len(sample))
    for index, label in enumerate(LABELS):
        chosen, positive = score[:, index], sample.truth == index
        found[f"auc_{label}"] = auc(chosen, positive)
        found[f"auc_{label}_error"] = auc_error(chosen, positive)
    return found


def score_tagger(tagger: Runner, encoder: Runner, sample: Wafers) -> F32:
    """Return (N, 3) class probabilities from latents and sums as they arrive."""
    return tagger(*over_link(encoder(sample.image), sample.total, _TAG_BITS))


def seconds_a_row(run: Callable[[], object], rows: int, repeats: int = 5) -> float:
    """Return the processor time of a run, the median of several, divided by the rows of each.

    Only this thread's time counts: that of other processes on the same cores does not.
    """
    run()
    times_s = []
    for _ in range(repeats):
        began = time.thread_time()
        run()
        times_s.append(time.thread_time() - began)
    return float(np.median(times_s)) / rows


def held_out(sample: Wafers, seen: NDArray[np.uint64]) -> Wafers:
    """Return the wafers of a sample whose images were not trained on."""
    return sample.part(np.flatnonzero(~np.isin(measured_files.image_digests(sample.charge), seen)))


def joined(tables: Sequence[Metrics]) -> Metrics:
    """Return all entries of several tables."""
    return {key: value for table in tables for key, value in table.items()}


def _f32(values: F64) -> F32:
    return values.astype(np.float32)
