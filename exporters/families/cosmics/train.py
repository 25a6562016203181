"""Training of the cosmics nets: in parallel, on the same simulated readouts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn

from sluice.exporters.families.base import TrainOptions
from sluice.exporters.training import provenance, recipes
from sluice.exporters.training.loop import Columns, Job, Loss, fit
from sluice.exporters.training.parallel import Scores, run_all, worker_count
from sluice.exporters.training.provenance import Provenance
from sluice.pipeline.inference.manifest import Training

from .data import Readouts, simulated
from .model import build
from .recipe import PATH, Net, Recipe


@dataclass(frozen=True)
class TrainingRun:
    """One training of all nets of the family: what its processes share."""

    recipe: Recipe
    seed: int
    folder: Path
    resume: bool


def train(options: TrainOptions) -> Scores:
    """Train all nets of the family; return validation losses by the names of their files."""
    recipe = recipes.load(options.recipe or PATH, Recipe, quick=options.quick)
    seed = recipe.seed if options.seed is None else options.seed
    run = TrainingRun(recipe, seed, options.out, options.resume)
    held = _sample(recipe.events, seed)
    training = Training(
        seed=seed,
        dataset="simulated annihilations and cosmic muons",
        dataset_sha256=held.digest,
        events=len(held),
        commit=provenance.code_version(),
        recipe_sha256=recipes.digest(recipe),
    )
    provenance.claim_folder(run.folder, Provenance(training, recipe), resume=run.resume)
    each = [(name, k) for name, net in recipe.nets.items() for k in range(net.seeds)]
    with worker_count(recipe.workers) as pool:
        return run_all(run, [(_one, task) for task in each], pool)


def _one(run: TrainingRun, name: str, number: int) -> Scores:
    net, held = run.recipe.nets[name], _sample(run.recipe.events, run.seed)
    cut = len(held) - max(1, round(run.recipe.validation * len(held)))
    torch.manual_seed(run.seed + number)
    module = build(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parts = (_columns(held.part(slice(0, cut))), _columns(held.part(slice(cut, None))))
    stem = f"{name}-{number}"
    job = Job(stem, module, _loss(module, net), *parts, net.schedule)
    return {stem: fit(job, run.seed + number, run.folder, resume=run.resume)}


@cache
def _sample(events: int, seed: int) -> Readouts:
    return simulated(events, seed)


def _columns(part: Readouts) -> Columns:
    # Packed: the images of all readouts would fill the memory.
    counts = torch.from_numpy(part.bars.astype("int32"))
    return torch.from_numpy(part.strips), counts, torch.from_numpy(part.truth)


def _loss(module: nn.Module, net: Net) -> Loss:
    def loss(rows: Columns) -> torch.Tensor:
        strips, bars, truth = (column.numpy() for column in rows)
        seen = Readouts(strips, bars.astype("uint16"), truth).seen(net.sees)
        score = module.logit(*map(torch.from_numpy, seen))  # type: ignore[operator]
        return nn.functional.binary_cross_entropy_with_logits(score, rows[2].float())

    return loss


def read_provenance(checkpoints: Path) -> Provenance[Recipe]:
    """Return the provenance that the training wrote beside its checkpoints."""
    return provenance.read(checkpoints, Provenance[Recipe], "cosmics")
