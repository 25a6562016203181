"""Training of the jets' nets: the data set's chunks, their observables, all trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from sluice.exporters.families.base import TrainOptions
from sluice.exporters.families.jets.simulation.dataset import produce
from sluice.exporters.training import provenance, recipes
from sluice.exporters.training.parallel import run_all, worker_count
from sluice.exporters.training.provenance import Provenance
from sluice.pipeline.inference.manifest import Training

from . import data, trainings
from .recipe import PATH, Recipe

#: File in the checkpoints' folder with the observables of all jets.
JETS = "jets.npz"


def train(options: TrainOptions) -> dict[str, float]:
    """Simulate what is missing, train all nets; return validation losses by name."""
    recipe = recipes.load(options.recipe or PATH, Recipe, quick=options.quick)
    if options.seed is not None:
        recipe = msgspec.structs.replace(recipe, seed=options.seed)
    if options.resume:
        provenance.require_same_training(options.out, recipe, Provenance[Recipe], "jets")
    chunks = [part for n in range(recipe.blocks) for part in data.block(n, recipe.chunk)]
    # Chunks stay, for they are dear: those of another seed are elsewhere.
    held = options.out / f"chunks-{recipe.seed}"
    produce(held, chunks, recipe.seed, recipe.workers)
    parts = data.parted(data.read(held, chunks))
    provenance.claim_folder(
        options.out, Provenance(_training(recipe, parts), recipe), resume=options.resume
    )
    _write(options.out / JETS, parts)
    with worker_count(recipe.workers) as pool:
        each = [(_one, (net, seed)) for net, seed in trainings.tasks(recipe)]
        return run_all((recipe, options.out, options.resume), each, pool)


def _one(run: tuple[Recipe, Path, bool], net: trainings.Net, seed: int) -> dict[str, float]:
    recipe, folder, resume = run
    return {f"{net.name}-{seed}": trainings.train(net, seed, recipe, folder, resume=resume)}


def _write(path: Path, parts: dict[str, data.Jets]) -> None:
    arrays = {f"{p}/{n}": getattr(j, n) for p, j in parts.items() for n in j.__struct_fields__}
    np.savez(path, **cast(Any, arrays))


def _training(recipe: Recipe, parts: dict[str, data.Jets]) -> Training:
    return Training(
        seed=recipe.seed,
        dataset="simulated jets",
        dataset_sha256=parts["train"].digest,
        events=len(parts["train"]),
        commit=provenance.code_version(),
        recipe_sha256=recipes.digest(recipe),
    )


def read_provenance(checkpoints: Path) -> Provenance[Recipe]:
    """Return the provenance that the training wrote beside its checkpoints."""
    return provenance.read(checkpoints, Provenance[Recipe], "jets")
