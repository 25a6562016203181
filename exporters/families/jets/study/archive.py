"""Test jets and the nets of all trainings, in two small files.

With them an evaluation needs no simulation and no training, and still knows the spread between
trainings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import torch

from sluice.exporters.families.jets.data import Jets, concatenate
from sluice.exporters.families.jets.recipe import Recipe
from sluice.exporters.families.jets.trainings import Net, Trained, nets

TEST, STUDY, RECIPE = "test-jets.npz", "nets.npz", "recipe"
#: Test jets to keep of each sample.
_MAX_JETS = 12_000


def write(folder: Path, recipe: Recipe, test: Jets, taggers: dict[str, Trained]) -> list[Path]:
    """Write both files.

    Parameters
    ----------
    folder
        Folder to write the files to.
    recipe
        Recipe that the nets were trained by.
    test
        Jets that no training saw.
    taggers
        Trained nets by the stems of their checkpoints.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = thin(test)
    fields = {name: getattr(kept, name).astype(np.float16) for name in kept.__struct_fields__}
    np.savez_compressed(folder / TEST, **cast(Any, fields))
    arrays: dict[str, Any] = {RECIPE: np.frombuffer(msgspec.json.encode(recipe), np.uint8)}
    for stem, module in taggers.items():
        for key, value in module.tagger.state_dict().items():
            array = value.numpy()
            arrays[f"{stem}/{key}"] = array.astype(np.float16) if array.ndim == 2 else array
    np.savez_compressed(folder / STUDY, **cast(Any, arrays))
    return [folder / TEST, folder / STUDY]


def read(folder: Path) -> tuple[Recipe, Jets, dict[str, Trained]]:
    """Return recipe, test jets and nets by stem, as `write` left them; Jets as 32-bit floats."""
    with np.load(folder / TEST) as file:
        test = Jets(*(file[name].astype(np.float32) for name in Jets.__struct_fields__))
    taggers: dict[str, Trained] = {}
    with np.load(folder / STUDY) as file:
        recipe = msgspec.json.decode(file[RECIPE].tobytes(), type=Recipe)
        for net in nets(recipe):
            for stem in checkpoint_names(net):
                module = Trained(net, recipe)
                state = {
                    key: torch.from_numpy(file[f"{stem}/{key}"].astype(value.numpy().dtype))
                    for key, value in module.tagger.state_dict().items()
                }
                module.tagger.load_state_dict(state)
                taggers[stem] = module.eval()
    return recipe, test, taggers


def checkpoint_names(net: Net) -> list[str]:
    """Return the stems of a net's checkpoints, one a seed."""
    return [f"{net.name}-{seed}" for seed in range(net.seeds)]


def thin(jets: Jets) -> Jets:
    """Return the first jets of each sample, QCD five times as many."""
    parts = []
    for mass in np.unique(jets.resonance):
        for hardness in np.unique(jets.hardness):
            rows = np.flatnonzero((jets.resonance == mass) & (jets.hardness == hardness))
            max_jets = 3 * _MAX_JETS if mass == 0 and hardness == jets.hardness.min() else _MAX_JETS
            parts.append(jets.part(rows[: max_jets if mass in (0, 100) else _MAX_JETS // 4]))
    return concatenate(parts)
