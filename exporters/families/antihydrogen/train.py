"""Training of the antihydrogen nets: on the toy's events, shifted along z or not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from sluice.exporters.families.base import TrainOptions
from sluice.exporters.training import provenance, recipes
from sluice.exporters.training.loop import Columns, Job, fit
from sluice.exporters.training.parallel import Scores, run_all, worker_count
from sluice.exporters.training.provenance import Provenance
from sluice.pipeline.inference.manifest import Training

from .data import Annihilations, simulated, unpacked
from .model import TwoPaths
from .recipe import Net, Recipe, load


@dataclass(frozen=True)
class TrainingRun:
    """One training of all nets of the family: what its processes share."""

    recipe: Recipe
    seed: int
    folder: Path
    resume: bool


@dataclass(frozen=True)
class Sample:
    """Events to train on and to choose the best weights by."""

    train: Annihilations
    valid: Annihilations


def train(options: TrainOptions) -> Scores:
    """Train all nets of the family; return validation losses by the names of their files."""
    recipe = load(options.recipe, quick=options.quick)
    seed = recipe.seed if options.seed is None else options.seed
    run = TrainingRun(recipe, seed, options.out, options.resume)
    _claim(run)
    with worker_count(recipe.workers) as pool:
        each = [(name, k) for name, net in recipe.nets.items() for k in range(net.seeds)]
        return run_all(run, [(_one, task) for task in each], pool)


def _one(run: TrainingRun, name: str, number: int) -> Scores:
    net, held = run.recipe.nets[name], sample(run)
    torch.manual_seed(run.seed + number)
    module = build(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = criterion(module, run.recipe.shift if net.shifted else None)
    stem = f"{name}-{number}"
    job = Job(stem, module, loss, columns(held.train), columns(held.valid), net.schedule)
    return {stem: fit(job, run.seed + number, run.folder, resume=run.resume)}


def sample(run: TrainingRun) -> Sample:
    """Simulate the events of a training and split them."""
    return _sample(run.recipe.events, run.seed, run.recipe.validation)


@cache
def _sample(events: int, seed: int, validation: float) -> Sample:
    return split(simulated(events, seed, hit=True), validation)


def build(net: Net) -> TwoPaths:
    """Return an untrained net of a recipe."""
    return TwoPaths(net.channels, net.hidden, net.dropout)


def split(whole: Annihilations, share: float) -> Sample:
    """Split a sample: its last events are for validation."""
    cut = len(whole) - max(1, round(share * len(whole)))
    return Sample(whole.part(slice(0, cut)), whole.part(slice(cut, None)))


def columns(part: Annihilations) -> Columns:
    """Return packed strips and truth as tensors."""
    return torch.from_numpy(part.strips), torch.from_numpy(part.truth).float()


def criterion(module: TwoPaths, shift: tuple[int, int] | None) -> nn.Module:
    """Return the loss of rows of strips and truth; z is shifted while the net is training."""
    return _Loss(module, shift)


class _Loss(nn.Module):
    def __init__(self, net: TwoPaths, shift: tuple[int, int] | None) -> None:
        super().__init__()
        self._net = [net]  # not a part of this: it is trained by itself
        self._shift = shift

    def forward(self, rows: Columns) -> Tensor:
        strips, truth = rows
        z, phi, _ = map(torch.from_numpy, unpacked(strips.numpy()))
        (net,) = self._net
        if self._shift and net.training:
            z = shift_along_z(z, *self._shift)
        return nn.functional.binary_cross_entropy_with_logits(net.logit(z, phi), truth)


def shift_along_z(z: Tensor, low: int, high: int) -> Tensor:
    """Return (N, 2, 447) images, each shifted by a whole number of strips from `low` to `high`.

    Strips that are shifted off the detector are lost; those that come in have not fired.
    """
    events, layers, strips = z.shape
    by = torch.randint(low, high + 1, (events, 1, 1))
    at = torch.arange(strips).expand(events, layers, strips) - by
    inside = (at >= 0) & (at < strips)
    return torch.gather(z, 2, at.clamp(0, strips - 1)) * inside


def _claim(run: TrainingRun) -> None:
    train_on = sample(run).train
    training = Training(
        seed=run.seed,
        dataset="simulated annihilations",
        dataset_sha256=train_on.digest,
        events=len(train_on),
        commit=provenance.code_version(),
        recipe_sha256=recipes.digest(run.recipe),
    )
    provenance.claim_folder(run.folder, Provenance(training, run.recipe), resume=run.resume)


def read_provenance(checkpoints: Path) -> Provenance[Recipe]:
    """Return the provenance that the training wrote beside its checkpoints."""
    return provenance.read(checkpoints, Provenance[Recipe], "antihydrogen")
