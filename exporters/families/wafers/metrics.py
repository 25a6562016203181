"""What the wafer models are judged by; they come as plain functions of arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.wafer import LATENTS, packed_bytes, quantise_pack

from . import data, pairs
from .data import F32, Wafers
from .simulate import LABELS

LINK_BITS = 9
Metrics = dict[str, float]


@dataclass(frozen=True)
class Chain:
    """The models of the family, as functions of arrays with a leading event axis.

    Attributes
    ----------
    encode
        Image to latent.
    decode
        Latent as it arrives to charge fractions.
    tag
        Latent and module sum as they arrive to class probabilities.
    emd
        Two wafers' charge fractions to their approximate EMD.
    """

    encode: Callable[[F32], F32]
    decode: Callable[[F32], F32]
    tag: Callable[[F32, F32], F32]
    emd: Callable[[F32, F32], F32]

    def received(self, wafers: Wafers) -> tuple[F32, F32]:
        """Return latents and module sums as they arrive over the link."""
        return over_link(self.encode(wafers.image), wafers.total)

    def decoded(self, wafers: Wafers) -> F32:
        """Return the charge fractions as they come out of the decoder."""
        return self.decode(self.received(wafers)[0])


def over_link(latent: F32, total: F32) -> tuple[F32, F32]:
    """Quantise (N, 16) latents and (N,) module sums as the output link does."""
    events = len(latent)
    packed = np.empty((events, packed_bytes(LINK_BITS)), np.uint8)
    latent_q, sum_q = np.empty((events, LATENTS), np.float32), np.empty(events, np.float32)
    quantise_pack(np.ascontiguousarray(latent), total, LINK_BITS, packed, latent_q, sum_q)
    return latent_q, sum_q


def codec(chain: Chain, sample: Wafers, most: int = 2_000) -> Metrics:
    """Measure the exact EMD between wafers and what the decoder makes of them.

    Parameters
    ----------
    chain
        The models.
    sample
        Wafers that no model was trained on; only those of `data.hard` count.
    most
        Wafers at most; the first ones.
    """
    chosen = data.hard(sample).part(slice(0, most))
    if not len(chosen):
        return {"events": 0.0}
    distance = pairs.exact(chosen.fraction, chain.decoded(chosen))
    return {
        "emd_mean": float(distance.mean()),
        "emd_median": float(np.median(distance)),
        "events": float(len(chosen)),
    }


def surrogate(chain: Chain, sample: Wafers, seed: int, most: int = 1_000) -> Metrics:
    """Measure the surrogate's relative error against the exact EMD, by kind of pair.

    Parameters
    ----------
    chain
        The models.
    sample
        Wafers that no model was trained on.
    seed
        Of the choice of pairs.
    most
        Pairs of each kind.
    """
    rng = np.random.default_rng(seed)
    chosen = sample.part(rng.permutation(len(sample))[:most])
    p = pairs.fractions(chosen.charge)
    kinds = {kind: pairs.PARTNERS[kind](p, rng) for kind in pairs.PARTNERS}
    kinds["decoded"] = pairs.fractions(chain.decoded(chosen))
    found: Metrics = {}
    for kind, q in kinds.items():
        error = relative_error(chain.emd(_f32(p), _f32(q)), pairs.exact(p, q))
        if len(error):
            found |= {f"{kind}_bias": float(error.mean()), f"{kind}_std": float(error.std())}
    return found


def relative_error(got: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """Return (got - expected) / expected where `expected` is more than rounding."""
    some = expected > 1e-3
    error: NDArray[np.float64] = got[some] / expected[some].astype(np.float64) - 1.0
    return error


def tagging(chain: Chain, sample: Wafers) -> Metrics:
    """Measure the tagger: accuracy, and the area under each class's curve against the rest."""
    score = chain.tag(*chain.received(sample))
    found = {"accuracy": float((score.argmax(1) == sample.truth).mean())}
    for index, label in enumerate(LABELS):
        found[f"auc_{label}"] = auc(score[:, index], sample.truth == index)
    return found


def auc(score: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Return the area under the receiver operating characteristic; ties count half.

    Examples
    --------
    >>> auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    """
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - 0.5 * (counts - 1))[inverse]
    n = int(positive.sum())
    pairs_won = rank[positive].sum() - 0.5 * n * (n + 1)
    return float(pairs_won / max(1, n * (len(score) - n)))


def _f32(values: NDArray[Any]) -> F32:
    return values.astype(np.float32)
