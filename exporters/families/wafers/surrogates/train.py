"""Training of EMD surrogates on pairs labelled with their exact distance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from sluice.exporters.families.wafers.coders.fixed_point import BITS_BY_LINKS
from sluice.exporters.families.wafers.coders.model import Autoencoder
from sluice.exporters.families.wafers.coders.train import (
    GUIDE,
    SHIPPED,
    WARM_BITS,
    checkpoint_name,
    load,
)
from sluice.exporters.families.wafers.data import Wafers
from sluice.exporters.families.wafers.recipe import PairsRecipe
from sluice.exporters.families.wafers.training_run import TrainingRun, split
from sluice.exporters.training.loop import Columns, Job, fit
from sluice.exporters.training.parallel import Scores, Task

from . import pairs
from .model import CnnSurrogate, EmdSurrogate

CNN = "emd-cnn"
#: Pairs nearer than this are all rounding.
_NEAREST = 1e-4
#: Share of pairs whose wafer has few cells with charge.
_FEW_CELLS, _SPARSE_SHARE = 5, 0.3


def train_guide(run: TrainingRun) -> list[Task]:
    """Return the training of the surrogate that encoders learn from."""
    return [(train_norm, (GUIDE, run.recipe.emd.guide))]


def train_final(run: TrainingRun) -> list[Task]:
    """Return the trainings of all other surrogates, in the recipe's order, the published last."""
    return [*((train_norm, (name, name)) for name in run.recipe.emd.nets), (train_cnn, ())]


def train_norm(run: TrainingRun, name: str, net: str) -> Scores:
    """Train one surrogate that is nearly a norm."""
    recipe = run.recipe.emd.nets[net]
    torch.manual_seed(run.seed)
    module = EmdSurrogate(recipe.widths)
    if name == GUIDE:
        short = replace(recipe.schedule, epochs=run.recipe.emd.guide_epochs)
        recipe = replace(recipe, schedule=short)
    return _fit(run, name, module, recipe, final=name != GUIDE)


def train_cnn(run: TrainingRun) -> Scores:
    """Train the published surrogate, on a part of the pairs."""
    recipe = run.recipe.emd.cnn
    torch.manual_seed(run.seed)
    module = CnnSurrogate(recipe.filters, recipe.hidden)
    return _fit(run, CNN, module, recipe, final=True)


def _fit(
    run: TrainingRun, name: str, module: nn.Module, recipe: PairsRecipe, *, final: bool
) -> Scores:
    held = split(run)
    train = label_pairs(run, held.train, recipe, run.seed, final=final)
    few = replace(recipe, pairs=max(64, recipe.pairs // 16))
    valid = label_pairs(run, held.valid, few, run.seed + 1, final=final)
    turns = torch.from_numpy(pairs.symmetries())
    # Nothing makes the published net precise at small distances, or turn: let it not try the one,
    # and learn the other.
    published = isinstance(module, CnnSurrogate)
    floor = 0.1 if published else 0.0

    def loss(rows: Columns) -> Tensor:
        p, q, distance = rows
        if published and module.training:
            turn = turns[torch.randint(len(turns), ())]
            p, q = p[:, turn], q[:, turn]
        error: Tensor = (module(p, q) - distance) / (distance + floor)
        return error.square().mean()

    return {
        name: fit(
            Job(name, module, loss, train, valid, recipe.schedule),
            run.seed,
            run.folder,
            resume=run.resume,
        )
    }


def label_pairs(
    run: TrainingRun, wafers: Wafers, recipe: PairsRecipe, seed: int, *, final: bool
) -> Columns:
    """Return pairs of wafers with others, with what codecs and with what encoders make of them.

    Parameters
    ----------
    run
        Training run whose folder holds the encoders.
    wafers
        Wafers to choose from.
    recipe
        Number of pairs, and the share of them with encoders.
    seed
        Seed of the random choice.
    final
        Whether to use the encoders that ship, or those that they start from.

    Returns
    -------
    tuple
        (N, 48) and (N, 48) f32 fractions, (N,) f32 exact distance.
    """
    rng = np.random.default_rng(seed)
    p = pairs.fractions(_chosen(wafers, recipe.pairs, rng).charge)
    share = recipe.decoded
    again = _chosen(wafers, round(recipe.pairs * share / (1.0 - share)), rng)
    q = np.concatenate([pairs.mixed(p, rng), _decoded(run, again, rng, final=final)])
    p = np.concatenate([p, pairs.fractions(again.charge)])
    distance = pairs.exact(p, q)
    some = distance > _NEAREST
    return tuple(torch.from_numpy(column[some].astype(np.float32)) for column in (p, q, distance))


def _chosen(wafers: Wafers, count: int, rng: np.random.Generator) -> Wafers:
    # Wafers of few cells are a small part of the sample and hard: take more of them, where any.
    few = (wafers.charge > 0).sum(1) <= _FEW_CELLS
    kinds = [rows for rows in (np.flatnonzero(few), np.flatnonzero(~few)) if len(rows)]
    sizes = [count] if len(kinds) == 1 else [round(_SPARSE_SHARE * count)]
    sizes.append(count - sizes[0])
    picks = [rng.choice(rows, size) for rows, size in zip(kinds, sizes, strict=False)]
    return wafers.part(rng.permutation(np.concatenate(picks)))


def _decoded(
    run: TrainingRun, wafers: Wafers, rng: np.random.Generator, *, final: bool
) -> pairs.F64:
    coders = list(_coders(run, final=final))
    parts = np.array_split(np.arange(len(wafers)), len(coders))
    found = []
    for coder, rows in zip(coders, parts, strict=True):
        image = torch.from_numpy(wafers.image[rows])
        # Decodings of every width of the link, wider and narrower than the coder was trained for.
        step = torch.from_numpy(2.0 ** -rng.integers(1, 9, (len(rows), 1)).astype(np.float32))
        with torch.no_grad():
            latent = coder.encoder(image)
            decoded = coder.decoder(torch.floor(latent / step + 0.5) * step)
        found.append(pairs.fractions(decoded.numpy()))
    return np.concatenate(found)


def _coders(run: TrainingRun, *, final: bool) -> Iterator[Autoencoder]:
    width, seeds = run.recipe.autoencoder.width, run.recipe.autoencoder.seeds
    for seed in range(seeds):
        yield _coder(run, "warm", WARM_BITS, seed, width)
    if final:
        for bits in BITS_BY_LINKS.values():
            yield _coder(run, SHIPPED, bits, 0, width)


def _coder(run: TrainingRun, kind: str, bits: int, seed: int, width: int) -> Autoencoder:
    return load(
        run.folder / f"{checkpoint_name(kind, bits, seed)}.pt", Autoencoder(bits, width)
    ).eval()
