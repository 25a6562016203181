"""Pairs of wafers labelled with their exact EMD, as columns to train the surrogate on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sluice.exporters.train import Columns

from . import pairs
from .data import Wafers
from .model import LATENT_STEP, Autoencoder, quantise

#: Wafers or columns to train on and to validate on.
Samples = tuple[Wafers, Wafers]
Parts = tuple[Columns, Columns]

#: As many times fewer pairs validate as train.
_HELD_OUT = 16
#: Latents are rounded to 9, 7, 5 and 4 bits in turn: the surrogate meets worse decodings too.
_COARSER = (1, 4, 16, 32)


def mixed_pairs(samples: Samples, count: int, seed: int) -> Parts:
    """Return pairs of wafers with others and with what the chip's codecs make of them.

    Parameters
    ----------
    samples
        Wafers to choose from.
    count
        Pairs to train on.
    seed
        Of the choice.

    Returns
    -------
    tuple
        Each part: (N, 48) and (N, 48) f32 fractions, (N,) f32 distance.
    """
    rng = np.random.default_rng(seed)
    train, valid = (pairs.fractions(w.charge) for w in _some(samples, count, rng))
    return _labelled(train, pairs.mixed(train, rng)), _labelled(valid, pairs.mixed(valid, rng))


def decoded_pairs(coder: Autoencoder, samples: Samples, count: int, seed: int) -> Parts:
    """Return pairs of wafers with their decoded selves, else as `mixed_pairs`."""
    train, valid = _some(samples, count, np.random.default_rng(seed))
    return _with_decoded(coder, train), _with_decoded(coder, valid)


def joined(first: Parts, second: Parts) -> Parts:
    """Return the pairs of both."""
    train, valid = (
        tuple(torch.cat(both) for both in zip(a, b, strict=True))
        for a, b in zip(first, second, strict=True)
    )
    return train, valid


def _some(samples: Samples, count: int, rng: np.random.Generator) -> Samples:
    train, valid = samples
    few = max(16, count // _HELD_OUT)
    return (
        train.part(rng.permutation(len(train))[:count]),
        valid.part(rng.permutation(len(valid))[:few]),
    )


def _with_decoded(coder: Autoencoder, chosen: Wafers) -> Columns:
    coarser = torch.tensor(_COARSER)[torch.arange(len(chosen)) % len(_COARSER)]
    with torch.no_grad():
        latent = coder.encoder(torch.from_numpy(chosen.image))
        decoded = coder.decoder(quantise(latent, LATENT_STEP * coarser[:, None]))
    return _labelled(pairs.fractions(chosen.charge), decoded.numpy())


def _labelled(p: pairs.F64, q: NDArray[Any]) -> Columns:
    columns = (p, q, pairs.exact(p, q))
    return tuple(torch.from_numpy(column.astype(np.float32)) for column in columns)
