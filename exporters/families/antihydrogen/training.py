"""How the antihydrogen nets are trained: on the toy's events, shifted along z or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from sluice.exporters import recipes
from sluice.exporters.families import TrainOptions
from sluice.exporters.train import METRICS, Columns, Job, fit
from sluice.pipeline.errors import ConfigError
from sluice.pipeline.manifest import Training

from .data import Annihilations, simulated, unpacked
from .model import TwoPaths
from .recipe import Net, Recipe, load

PROVENANCE = "training.json"


class Note(msgspec.Struct, frozen=True):
    """What the file `PROVENANCE` beside the checkpoints says."""

    training: Training
    recipe: Recipe


@dataclass(frozen=True)
class Sample:
    """Events to train on and to choose the best weights by."""

    train: Annihilations
    valid: Annihilations


def train(options: TrainOptions) -> dict[str, float]:
    """Train all nets of the family; return validation losses by the names of their files."""
    recipe = load(options.recipe, quick=options.quick)
    seed = recipe.seed if options.seed is None else options.seed
    sample = parted(simulated(recipe.events, seed, hit=True), recipe.validation)
    _claim(options, recipe, seed, sample.train)
    losses = {}
    for name, net in recipe.nets.items():
        for number in range(net.seeds):
            stem = f"{name}-{number}"
            torch.manual_seed(seed + number)
            module = build(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            loss = criterion(module, recipe.shift if net.shifted else None)
            train_on, valid = columns(sample.train), columns(sample.valid)
            job = Job(stem, module, loss, train_on, valid, net.schedule)
            losses[stem] = fit(job, seed + number, options.out, resume=options.resume)
    return losses


def build(net: Net) -> TwoPaths:
    """Return an untrained net of a recipe."""
    return TwoPaths(net.channels, net.hidden, net.dropout)


def parted(whole: Annihilations, share: float) -> Sample:
    """Part a sample: its last events are for validation."""
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
            z = shifted(z, *self._shift)
        return nn.functional.binary_cross_entropy_with_logits(net.logit(z, phi), truth)


def shifted(z: Tensor, low: int, high: int) -> Tensor:
    """Return (N, 2, 447) images, each shifted by a whole number of strips from `low` to `high`.

    Strips that are shifted off the detector are lost; those that come in have not fired.
    """
    events, layers, strips = z.shape
    by = torch.randint(low, high + 1, (events, 1, 1))
    at = torch.arange(strips).expand(events, layers, strips) - by
    inside = (at >= 0) & (at < strips)
    return torch.gather(z, 2, at.clamp(0, strips - 1)) * inside


def _claim(options: TrainOptions, recipe: Recipe, seed: int, train_on: Annihilations) -> None:
    # A folder holds the nets of one training: never some of this and some of an earlier one.
    training = Training(
        seed=seed,
        dataset="simulated annihilations",
        dataset_sha256=train_on.digest,
        events=len(train_on),
        recipe_sha256=recipes.digest(recipe),
    )
    note = msgspec.json.format(msgspec.json.encode(Note(training, recipe)))
    path = options.out / PROVENANCE
    if not options.resume:
        for stale in (*options.out.glob("*.pt"), options.out / METRICS):
            stale.unlink(missing_ok=True)
    elif path.exists() and path.read_bytes() != note:
        raise ConfigError(
            f"checkpoints {options.out}: made with another recipe, seed or simulation",
            "train without --resume, or into another folder",
        )
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_bytes(note)


def read_note(checkpoints: Path) -> Note:
    """Return what the training left beside its checkpoints.

    Raises
    ------
    ConfigError
        If it is missing or of another shape.
    """
    path = checkpoints / PROVENANCE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Note)
    except OSError as error:
        raise ConfigError(
            f"checkpoints {checkpoints}: {PROVENANCE} is missing",
            "`sluice train antihydrogen` writes it",
        ) from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
