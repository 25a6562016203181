"""How the wafer models are trained: in which order, on what, with which loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from sluice.exporters.families import TrainOptions
from sluice.exporters.train import METRICS, Columns, Job, Loss, Schedule, fit
from sluice.pipeline.errors import ConfigError
from sluice.pipeline.manifest import Training

from . import data, pairs
from .data import Wafers
from .labelled import Parts, decoded_pairs, joined, mixed_pairs
from .metrics import over_link
from .model import Autoencoder, EmdSurrogate, Tagger
from .recipe import Recipe, digest, load

PROVENANCE = "training.json"


class Note(msgspec.Struct, frozen=True):
    """What the file `PROVENANCE` beside the checkpoints says."""

    training: Training
    recipe: Recipe


@dataclass(frozen=True)
class Run:
    """One training of all nets of the family: what they share."""

    recipe: Recipe
    seed: int
    folder: Path
    resume: bool
    train: Wafers
    valid: Wafers

    def fit(self, name: str, module: nn.Module, loss: Loss, parts: Parts, plan: Schedule) -> float:
        """Train one net on `parts`."""
        job = Job(name, module, loss, *parts, plan)
        return fit(job, self.seed, self.folder, resume=self.resume)


def train(options: TrainOptions) -> dict[str, float]:
    """Train encoder and decoder, the EMD surrogate and the tagger; return validation losses.

    The encoder starts on the cross-entropy between charge fractions, because the EMD surrogate
    alone stalls on blurred mean images. The surrogate learns twice: before it leads the encoder,
    and again on what the encoder then makes.
    """
    recipe = load(options.recipe, quick=options.quick)
    run = prepare(recipe, recipe.seed if options.seed is None else options.seed, options)
    _claim(run)
    torch.manual_seed(run.seed)
    coder, tagger = Autoencoder(), Tagger(recipe.tagger.hidden)
    emd = EmdSurrogate(recipe.emd.planes, recipe.emd.hidden)
    losses = {"autoencoder-warm": warm(run, coder)}
    count, samples = recipe.emd.pairs, (run.train, run.valid)
    others = mixed_pairs(samples, count, run.seed)
    labelled = joined(others, decoded_pairs(coder, samples, count // 2, run.seed + 1))
    losses["emd-first"] = fit_emd(run, "emd-first", emd, labelled)
    losses["autoencoder"] = fine(run, coder, emd)
    labelled = joined(labelled, decoded_pairs(coder, samples, count // 2, run.seed + 2))
    losses["emd"] = fit_emd(run, "emd", emd, labelled)
    losses["tagger"] = fit_tagger(run, coder, tagger)
    return losses


def prepare(recipe: Recipe, seed: int, options: TrainOptions) -> Run:
    """Simulate the sample and part it for training and validation."""
    sample = data.simulated(recipe.events, seed, recipe.coded)
    order = np.random.default_rng(seed).permutation(len(sample))
    cut = max(1, round(recipe.validation * len(order)))
    train, valid = sample.part(order[cut:]), sample.part(order[:cut])
    return Run(recipe, seed, options.out, options.resume, train, valid)


def warm(run: Run, coder: Autoencoder) -> float:
    """Train encoder and decoder on the cross-entropy."""

    def loss(rows: Columns) -> Tensor:
        image, fraction = rows
        return cross_entropy(fraction, coder(image))

    return run.fit("autoencoder-warm", coder, loss, _images(run), run.recipe.autoencoder.warm)


def fine(run: Run, coder: Autoencoder, emd: EmdSurrogate) -> float:
    """Train encoder and decoder on the EMD surrogate, with some cross-entropy."""
    emd.requires_grad_(False)
    blend = run.recipe.autoencoder.blend

    def loss(rows: Columns) -> Tensor:
        image, fraction = rows
        decoded = coder(image)
        distance: Tensor = emd(fraction, decoded)
        return distance.mean() + blend * cross_entropy(fraction, decoded)

    best = run.fit("autoencoder", coder, loss, _images(run), run.recipe.autoencoder.fine)
    emd.requires_grad_(True)
    return best


def fit_emd(run: Run, name: str, emd: EmdSurrogate, labelled: Parts) -> float:
    """Train the surrogate on the squared relative error, each batch turned by a symmetry."""
    turns = torch.from_numpy(pairs.symmetries())

    def loss(rows: Columns) -> Tensor:
        p, q, distance = rows
        if emd.training:
            turn = turns[torch.randint(len(turns), ())]
            p, q = p[:, turn], q[:, turn]
        error: Tensor = (emd(p, q) - distance) / (distance + 1e-2)
        return error.square().mean()

    return run.fit(name, emd, loss, labelled, run.recipe.emd.schedule)


def fit_tagger(run: Run, coder: Autoencoder, tagger: Tagger) -> float:
    """Train the tagger on latents and sums as they arrive from the finished encoder."""
    entropy = nn.CrossEntropyLoss()

    def loss(rows: Columns) -> Tensor:
        latent, total, truth = rows
        value: Tensor = entropy(tagger.logits(latent, total), truth)
        return value

    def received(sample: Wafers) -> Columns:
        with torch.no_grad():
            latent = coder.encoder(torch.from_numpy(sample.image)).numpy()
        arrived = over_link(latent, sample.total)
        return (*map(torch.from_numpy, arrived), torch.from_numpy(sample.truth))

    plan = run.recipe.tagger.schedule
    return run.fit("tagger", tagger, loss, (received(run.train), received(run.valid)), plan)


def cross_entropy(fraction: Tensor, decoded: Tensor) -> Tensor:
    """Return the mean cross-entropy of (N, 48) distributions, in nats."""
    return -(fraction * torch.log(decoded + 1e-9)).sum(1).mean()


def _images(run: Run) -> Parts:
    def columns(sample: Wafers) -> Columns:
        return torch.from_numpy(sample.image), torch.from_numpy(sample.fraction)

    return columns(run.train), columns(run.valid)


def _claim(run: Run) -> None:
    # A folder holds the nets of one training: never some of this and some of an earlier one.
    training = Training(
        seed=run.seed,
        dataset="simulated wafers",
        dataset_sha256=run.train.digest,
        events=len(run.train),
        recipe_sha256=digest(run.recipe),
    )
    note = msgspec.json.format(msgspec.json.encode(Note(training, run.recipe)))
    path = run.folder / PROVENANCE
    if not run.resume:
        for stale in (*run.folder.glob("*.pt"), run.folder / METRICS):
            stale.unlink(missing_ok=True)
    elif path.exists() and path.read_bytes() != note:
        raise ConfigError(
            f"checkpoints {run.folder}: made with another recipe, seed or simulation",
            "train without --resume, or into another folder",
        )
    run.folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(note)
