"""Encoders trained only for comparison, in one small file a seed beside the models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from .chip import integers
from .coding import CONDITIONAL, stem
from .integers import BITS_BY_LINKS
from .losses import KINDS
from .training import SEEN


def write(checkpoints: Path, seeds: int, root: Path) -> list[Path]:
    """Write ``study-<seed>.npz`` and the digests of the images trained on.

    Encoders are kept as the chip's 6-bit integers, decoders as 16-bit floats.

    Parameters
    ----------
    checkpoints
        Where the trained nets are.
    seeds
        How many trainings of each there are.
    root
        The model repository.
    """
    root.mkdir(parents=True, exist_ok=True)
    written = [root / f"study-{seed}.npz" for seed in range(seeds)]
    for seed, path in enumerate(written):
        arrays: dict[str, NDArray[Any]] = {}
        for kind in (*KINDS, CONDITIONAL):
            for bits in BITS_BY_LINKS.values():
                held = checkpoints / f"{stem(kind, bits, seed)}.pt"
                if held.exists():
                    state = torch.load(held, weights_only=True)
                    arrays |= {f"{kind}/{bits}/{k}": v for k, v in _small(state).items()}
        np.savez_compressed(path, **cast(Any, arrays))
    shutil.copyfile(checkpoints / SEEN, root / SEEN)
    return [*written, root / SEEN]


def _small(state: dict[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    encoder = {k: v for k, v in state.items() if k.startswith("encoder.")}
    decoder = {k: v.numpy().astype(np.float16) for k, v in state.items() if k not in encoder}
    return {**integers(encoder), **decoder}
