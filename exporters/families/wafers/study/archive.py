"""Archive of encoders trained for comparison, a file per seed, and digests of training images."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from sluice.exporters.families.wafers.coders.fixed_point import BITS_BY_LINKS
from sluice.exporters.families.wafers.coders.fixed_point_torch import integers
from sluice.exporters.families.wafers.coders.losses import KINDS
from sluice.exporters.families.wafers.coders.train import CONDITIONAL, checkpoint_name
from sluice.exporters.families.wafers.train import SEEN

#: Digests of the measured wafers that were trained on; an evaluation leaves them out.
DIGESTS = "training-digests.npz"


def write(checkpoints: Path, seeds: int, folder: Path) -> list[Path]:
    """Write ``encoders-seed<N>.npz`` and the digests of the images trained on.

    Encoders are kept as the chip's 6-bit integers, decoders as 16-bit floats.

    Parameters
    ----------
    checkpoints
        Folder of the trained nets.
    seeds
        Number of trainings of each net.
    folder
        Folder to write the files to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"encoders-seed{seed}.npz" for seed in range(seeds)]
    for seed, path in enumerate(written):
        arrays: dict[str, NDArray[Any]] = {}
        for kind in (*KINDS, CONDITIONAL):
            for bits in BITS_BY_LINKS.values():
                held = checkpoints / f"{checkpoint_name(kind, bits, seed)}.pt"
                if held.exists():
                    state = torch.load(held, weights_only=True)
                    arrays |= {f"{kind}/{bits}/{k}": v for k, v in _small(state).items()}
        np.savez_compressed(path, **cast(Any, arrays))
    shutil.copyfile(checkpoints / SEEN, folder / DIGESTS)
    return [*written, folder / DIGESTS]


def _small(state: dict[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    encoder = {k: v for k, v in state.items() if k.startswith("encoder.")}
    decoder = {k: v.numpy().astype(np.float16) for k, v in state.items() if k not in encoder}
    return {**integers(encoder), **decoder}
