"""Training of encoders and decoders: the same start, then each loss at each number of bits."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from sluice.exporters.families.wafers.data import Wafers
from sluice.exporters.families.wafers.recipe import NormRecipe
from sluice.exporters.families.wafers.surrogates.model import EmdSurrogate
from sluice.exporters.families.wafers.training_run import TrainingRun, split
from sluice.exporters.training.loop import Columns, Job, Schedule, fit
from sluice.exporters.training.parallel import Scores, Task
from sluice.pipeline.core.errors import ConfigError

from . import fixed_point_torch, losses
from .fixed_point import BITS_BY_LINKS
from .model import Autoencoder, Tagger

Net = TypeVar("Net", bound=nn.Module)
WARM_BITS = 9
SHIPPED, CONDITIONAL = "shipped", "conditional"
GUIDE = "guide"


def pretraining_tasks(run: TrainingRun) -> list[Task]:
    """Return the trainings of a start for each seed."""
    return [(pretrain, (seed,)) for seed in range(run.recipe.autoencoder.seeds)]


def shipped_tasks(run: TrainingRun) -> list[Task]:
    """Return the trainings of the encoders that ship, the tagger with the first."""
    return [(finetune, (SHIPPED, b, 0)) for b in sorted(BITS_BY_LINKS.values(), reverse=True)]


def study_tasks(run: TrainingRun) -> list[Task]:
    """Return the trainings of the encoders that are compared."""
    bits = BITS_BY_LINKS.values()
    tasks: list[Task] = []
    for seed in range(run.recipe.autoencoder.seeds):
        tasks += [(finetune, (kind, b, seed)) for b in bits for kind in losses.KINDS]
    return [*tasks, *((finetune, (CONDITIONAL, b, 0)) for b in bits)]


def checkpoint_name(kind: str, bits: int, seed: int) -> str:
    """Return the stem of an autoencoder's files."""
    return f"{kind}-{bits}b-{seed}"


def pretrain(run: TrainingRun, seed: int) -> Scores:
    """Train one start."""
    torch.manual_seed(run.seed + seed)
    coder = Autoencoder(WARM_BITS, run.recipe.autoencoder.width)
    return _fit(
        run, checkpoint_name("warm", WARM_BITS, seed), coder, "warm", run.recipe.autoencoder.warm
    )


def finetune(run: TrainingRun, kind: str, bits: int, seed: int) -> Scores:
    """Train one autoencoder from its seed's start."""
    recipe = run.recipe.autoencoder
    coder = Autoencoder(bits, recipe.width, conditional=kind == CONDITIONAL)
    begin = torch.load(
        run.folder / f"{checkpoint_name('warm', WARM_BITS, seed)}.pt", weights_only=True
    )
    if kind == CONDITIONAL:
        first = begin["decoder.net.0.weight"]
        begin["decoder.net.0.weight"] = torch.cat([first, torch.zeros(len(first), 1)], 1)
    coder.load_state_dict(begin)
    plan = recipe.long if kind == SHIPPED else recipe.fine
    loss = "best" if kind in (SHIPPED, CONDITIONAL) else kind
    found = _fit(run, checkpoint_name(kind, bits, seed), coder, loss, plan)
    if kind == SHIPPED and bits == WARM_BITS:
        found |= train_tagger(run, coder)
    return found


def train_tagger(run: TrainingRun, coder: Autoencoder) -> Scores:
    """Train the tagger on latents and sums as they arrive from a finished encoder."""
    torch.manual_seed(run.seed)
    tagger, held = Tagger(run.recipe.tagger.hidden), split(run)
    entropy = nn.CrossEntropyLoss()

    def loss(rows: Columns) -> Tensor:
        latent, total, truth = rows
        value: Tensor = entropy(tagger.logits(latent, total), truth)
        return value

    def received(part: Wafers) -> Columns:
        with torch.no_grad():
            latent = fixed_point_torch.quantise(
                coder.encoder(torch.from_numpy(part.image)), coder.bits
            )
        return latent, torch.from_numpy(part.total), torch.from_numpy(part.truth)

    plan = run.recipe.tagger.schedule
    job = Job("tagger", tagger, loss, received(held.train), received(held.valid), plan)
    return {"tagger": fit(job, run.seed, run.folder, resume=run.resume)}


def surrogate(folder: Path, name: str, recipe: NormRecipe) -> EmdSurrogate:
    """Return a trained surrogate."""
    return load(folder / f"{name}.pt", EmdSurrogate(recipe.widths))


def load(path: Path, module: Net) -> Net:
    """Return a net with the weights of a checkpoint.

    Raises
    ------
    ConfigError
        If the checkpoint is missing or of another shape.
    """
    try:
        module.load_state_dict(torch.load(path, weights_only=True))
    except FileNotFoundError as error:
        raise ConfigError(
            f"checkpoint {path}: missing", "`sluice train wafers` writes it"
        ) from error
    except RuntimeError as error:
        raise ConfigError(f"checkpoint {path}: not of this recipe: {error}") from error
    return module


def _fit(run: TrainingRun, name: str, coder: Autoencoder, kind: str, plan: Schedule) -> Scores:
    distance: losses.Loss = losses.mse
    if kind in ("emd", "best"):
        emd = run.recipe.emd
        guide = surrogate(run.folder, GUIDE, emd.nets[emd.guide]).eval().requires_grad_(False)
        distance = cast(losses.Loss, guide)
    criterion = losses.chosen(kind, distance, run.recipe.autoencoder.blend)

    def loss(rows: Columns) -> Tensor:
        image, fraction, total = rows
        return criterion(fraction, coder(image, total))

    held = split(run)
    job = Job(name, coder, loss, _columns(held.train), _columns(held.valid), plan)
    seed = run.seed + int(name.rsplit("-", 1)[1])
    return {name: fit(job, seed, run.folder, resume=run.resume)}


def _columns(part: Wafers) -> Columns:
    return tuple(map(torch.from_numpy, (part.image, part.fraction, part.total)))
