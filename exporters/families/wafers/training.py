"""How the wafer models are trained: in which order, on what, with which loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sluice.exporters.families import TrainOptions
from sluice.exporters.train import Columns, Job, Loss, Schedule, fit
from sluice.pipeline.manifest import Training

from . import data, pairs
from .data import Wafers
from .metrics import over_link
from .model import LATENT_STEP, Autoencoder, EmdSurrogate, Tagger, quantise
from .recipe import Recipe, digest, load

PROVENANCE = "training.json"
#: Of the pairs, for validation.
_HELD_OUT = 16
#: Latents are rounded to 9, 7, 5 and 4 bits in turn: the surrogate meets worse decodings too.
_COARSER = (1, 4, 16, 32)


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

    def fit(
        self, name: str, module: nn.Module, loss: Loss, data: list[Columns], plan: Schedule
    ) -> float:
        """Train one net on `data`, a training and a validation set."""
        job = Job(name, module, loss, *data, plan)
        return fit(job, self.seed, self.folder, resume=self.resume)


def train(options: TrainOptions) -> dict[str, float]:
    """Train encoder and decoder, the EMD surrogate and the tagger; return validation losses.

    The encoder starts on the cross-entropy between charge fractions, because the EMD surrogate
    alone stalls on blurred mean images. The surrogate learns twice: before it leads the encoder,
    and again on what the encoder then makes.
    """
    recipe = load(options.recipe, quick=options.quick)
    run = prepare(recipe, recipe.seed if options.seed is None else options.seed, options)
    torch.manual_seed(run.seed)
    coder, tagger = Autoencoder(), Tagger(recipe.tagger.hidden)
    emd = EmdSurrogate(recipe.emd.planes, recipe.emd.hidden)
    losses = {"autoencoder-warm": warm(run, coder)}
    labelled = [mixed_pairs(run, sample) for sample in (run.train, run.valid)]
    labelled = [joined(a, b) for a, b in zip(labelled, decoded_pairs(run, coder), strict=True)]
    losses["emd-first"] = fit_emd(run, "emd-first", emd, labelled)
    losses["autoencoder"] = fine(run, coder, emd)
    labelled = [joined(a, b) for a, b in zip(labelled, decoded_pairs(run, coder), strict=True)]
    losses["emd"] = fit_emd(run, "emd", emd, labelled)
    losses["tagger"] = fit_tagger(run, coder, tagger)
    _note(run)
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


def fit_emd(run: Run, name: str, emd: EmdSurrogate, labelled: list[Columns]) -> float:
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
    return run.fit("tagger", tagger, loss, [received(run.train), received(run.valid)], plan)


def cross_entropy(fraction: Tensor, decoded: Tensor) -> Tensor:
    """Return the mean cross-entropy of (N, 48) distributions, in nats."""
    return -(fraction * torch.log(decoded + 1e-9)).sum(1).mean()


def mixed_pairs(run: Run, sample: Wafers) -> Columns:
    """Return labelled pairs of wafers with others and with what the chip's codecs make of them."""
    rng = np.random.default_rng(run.seed)
    chosen = _some(run, sample, run.recipe.emd.pairs, rng)
    p = pairs.fractions(chosen.charge)
    return _labelled(p, pairs.mixed(p, rng))


def decoded_pairs(run: Run, coder: Autoencoder) -> list[Columns]:
    """Return labelled pairs of wafers with their decoded selves, at several widths of the link."""
    rng = np.random.default_rng(run.seed + 1)
    found = []
    for sample in (run.train, run.valid):
        chosen = _some(run, sample, run.recipe.emd.pairs // 2, rng)
        coarser = torch.tensor(_COARSER)[torch.arange(len(chosen)) % len(_COARSER)]
        with torch.no_grad():
            latent = coder.encoder(torch.from_numpy(chosen.image))
            decoded = coder.decoder(quantise(latent, LATENT_STEP * coarser[:, None]))
        found.append(_labelled(pairs.fractions(chosen.charge), decoded.numpy()))
    return found


def joined(first: Columns, second: Columns) -> Columns:
    """Return two sets of the same columns as one."""
    return tuple(torch.cat(both) for both in zip(first, second, strict=True))


def _some(run: Run, sample: Wafers, count: int, rng: np.random.Generator) -> Wafers:
    count = count if sample is run.train else max(16, count // _HELD_OUT)
    return sample.part(rng.permutation(len(sample))[:count])


def _labelled(p: pairs.F64, q: NDArray[Any]) -> Columns:
    columns = (p, q, pairs.exact(p, q))
    return tuple(torch.from_numpy(column.astype(np.float32)) for column in columns)


def _images(run: Run) -> list[Columns]:
    return [
        (torch.from_numpy(sample.image), torch.from_numpy(sample.fraction))
        for sample in (run.train, run.valid)
    ]


def _note(run: Run) -> None:
    training = Training(
        seed=run.seed,
        dataset="simulated wafers",
        dataset_sha256=run.train.digest,
        events=len(run.train),
        recipe_sha256=digest(run.recipe),
    )
    note = msgspec.json.encode(Note(training, run.recipe))
    (run.folder / PROVENANCE).write_bytes(msgspec.json.format(note))
