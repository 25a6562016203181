"""From nothing to trained nets: the data set's chunks, their observables, all trainings."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from sluice.exporters import recipes
from sluice.exporters.families import TrainOptions
from sluice.exporters.pool import together, workers
from sluice.exporters.train import METRICS
from sluice.pipeline.errors import ConfigError
from sluice.pipeline.manifest import Training

from . import data, nets
from .chunks import Chunk, produce
from .recipe import PATH, Recipe

PROVENANCE = "training.json"
#: In the folder of the checkpoints: the observables of all jets.
JETS = "jets.npz"


class Note(msgspec.Struct, frozen=True):
    """What the file `PROVENANCE` beside the checkpoints says."""

    training: Training
    recipe: Recipe


def train(options: TrainOptions) -> dict[str, float]:
    """Simulate what is missing, train all nets; return validation losses by name."""
    recipe = recipes.load(options.recipe or PATH, Recipe, quick=options.quick)
    if options.seed is not None:
        recipe = msgspec.structs.replace(recipe, seed=options.seed)
    _claim(recipe, options)
    chunks = [part for n in range(recipe.blocks) for part in data.block(n, recipe.chunk)]
    held = options.out / f"chunks-{recipe.seed}"
    produce(held, chunks, recipe.seed, recipe.workers)
    sample = _prepare(options.out, held, chunks)
    note = Note(_training(recipe, sample), recipe)
    (options.out / PROVENANCE).write_bytes(msgspec.json.format(msgspec.json.encode(note)))
    with workers(recipe.workers) as pool:
        each = [(_one, (net, seed)) for net, seed in nets.tasks(recipe)]
        return together((recipe, options.out, options.resume), each, pool)


def _one(run: tuple[Recipe, Path, bool], net: nets.Net, seed: int) -> dict[str, float]:
    recipe, folder, resume = run
    return {f"{net.name}-{seed}": nets.train(net, seed, recipe, folder, resume=resume)}


def _prepare(folder: Path, held: Path, chunks: list[Chunk]) -> dict[str, data.Jets]:
    parts = data.parted(data.read(held, chunks))
    arrays = {f"{p}/{n}": getattr(j, n) for p, j in parts.items() for n in j.__struct_fields__}
    np.savez(folder / JETS, **cast(Any, arrays))
    return parts


def _training(recipe: Recipe, sample: dict[str, data.Jets]) -> Training:
    return Training(
        seed=recipe.seed,
        dataset="simulated jets",
        dataset_sha256=sample["train"].digest,
        events=len(sample["train"]),
        recipe_sha256=_digest(recipe),
    )


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(msgspec.json.encode(recipe)).hexdigest()


def _claim(recipe: Recipe, options: TrainOptions) -> None:
    # A folder holds the nets of one training: never some of this and some of an earlier one.
    # Chunks stay, for they are dear; those of another seed are elsewhere.
    path = options.out / PROVENANCE
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.resume:
        for stale in (*options.out.glob("*.pt"), options.out / METRICS):
            stale.unlink(missing_ok=True)
    elif path.exists():
        before = msgspec.json.decode(path.read_bytes(), type=Note).recipe
        if before != recipe:
            raise ConfigError(
                f"checkpoints {options.out}: made with another recipe or seed",
                "train without --resume, or into another folder",
            )
