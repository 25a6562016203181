"""The trainings of the jets family: its nets, and the loss of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sluice.exporters.training.loop import Columns, Job, fit

from .data import HARD, HELD_OUT, SOFT, Jets
from .model import MASS_SCALE, MassAdversary, Tagger, distance_correlation, reversed_gradient
from .recipe import Recipe

#: Resonance mass that taggers of one mass seek, GeV.
SOUGHT = 100
#: Share of the steps in which the adversary's weight rises.
_RISE = 0.1
#: Position of each column in what `columns` returns.
_X, _TRUTH, _WEIGHT, _MASS, _LOG_PT, _RESONANCE = range(6)


@dataclass(frozen=True)
class Net:
    """One kind of training.

    Attributes
    ----------
    name
        Name of its files, before the seed.
    means
        Decorrelation from the mass: ``adversary``, ``disco`` or empty for none.
    weight
        Weight of the decorrelation in the loss.
    sought
        Resonance mass that the net seeks, GeV; 0 if the mass is one of its inputs.
    narrow
        Whether this is the smaller net of the ladder's lower rung.
    seeds
        Number of trainings, which differ in their seed.
    """

    name: str
    means: str = ""
    weight: float = 0.0
    sought: int = SOUGHT
    narrow: bool = False
    seeds: int = 1

    @property
    def parametrised(self) -> bool:
        """Whether the resonance's mass is an input of the net."""
        return not self.sought


def nets(recipe: Recipe) -> list[Net]:
    """Return all nets of a recipe: those that are compared, then the scan of the weights."""
    many, adversary, disco = recipe.seeds, recipe.adversary.weight, recipe.disco.weight
    return [
        Net("plain", seeds=many),
        Net("adversarial", "adversary", adversary, seeds=many),
        Net("disco", "disco", disco, seeds=many),
        Net("narrow", "adversary", adversary, narrow=True, seeds=many),
        Net("parametrised", sought=0, seeds=many),
        Net("parametrised-adversarial", "adversary", adversary, sought=0, seeds=many),
        Net("dedicated", sought=HELD_OUT, seeds=many),
        *(Net(f"adversarial-{w:g}", "adversary", w) for w in recipe.scan.adversary),
        *(Net(f"disco-{w:g}", "disco", w) for w in recipe.scan.disco),
    ]


class Trained(nn.Module):
    """A tagger, and its adversary if it has one."""

    steps: Tensor

    def __init__(self, net: Net, recipe: Recipe) -> None:
        super().__init__()
        size = recipe.narrow if net.narrow else recipe.net
        self.tagger = Tagger(size.width, size.depth, parametrised=net.parametrised)
        # Steps so far; part of a checkpoint.
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        if net.means == "adversary":
            self.adversary = MassAdversary(
                recipe.adversary.width, recipe.adversary.components, parametrised=net.parametrised
            )


def train(net: Net, seed: int, recipe: Recipe, folder: Path, *, resume: bool) -> float:
    """Train one net once; return its validation loss."""
    parts = sample(folder)
    rng = np.random.default_rng(seed)
    found = {name: columns(parts[name], net, rng) for name in ("train", "valid")}
    torch.manual_seed(1_000 * recipe.seed + seed)
    module = Trained(net, recipe)
    module.tagger.standardise(found["train"][_X].numpy())
    steps = recipe.schedule.epochs * max(1, len(found["train"][0]) // recipe.schedule.batch)
    loss = Loss(module, net, steps)
    job = Job(f"{net.name}-{seed}", module, loss, found["train"], found["valid"], recipe.schedule)
    return fit(job, recipe.seed + seed, folder, resume=resume)


@cache
def sample(folder: Path) -> dict[str, Jets]:
    """Return the parts of the data set that `train` wrote to `folder`."""
    with np.load(folder / "jets.npz") as file:
        parts = {key.partition("/")[0] for key in file}
        return {p: Jets(*(file[f"{p}/{n}"] for n in Jets.__struct_fields__)) for p in parts}


def columns(jets: Jets, net: Net, rng: np.random.Generator) -> Columns:
    """Return the columns that a net is trained on: its signal, and background to match.

    Both classes weigh the same, and so do all resonances. A parametrised net gets a random
    resonance for background.
    """
    known = sorted({int(m) for m in jets.resonance} - {0, HELD_OUT})
    sought = known if net.parametrised else [net.sought]
    soft_only = not net.parametrised
    chosen = np.isin(jets.resonance, sought) | (jets.resonance == 0)
    chosen &= (jets.hardness == SOFT) if soft_only else (jets.hardness <= HARD)
    kept = jets.part(np.flatnonzero(chosen))
    truth = (kept.resonance > 0).astype(np.float32)
    resonance = np.where(truth > 0, kept.resonance, rng.choice(sought, len(kept))).astype(
        np.float32
    )
    weight = np.zeros(len(kept), np.float32)
    for mass in (0, *sought):
        rows = kept.resonance == mass
        share = 0.5 if mass == 0 else 0.5 / len(sought)
        weight[rows] = share * len(kept) / max(1, rows.sum())
    log_pt = np.log(kept.pt.clip(1.0) / 500.0)
    given = (kept.x, truth, weight, kept.mass / MASS_SCALE, log_pt, resonance)
    return tuple(torch.from_numpy(np.ascontiguousarray(c, np.float32)) for c in given)


class Loss:
    """Cross-entropy of signal and background, plus the penalty of the decorrelation.

    References
    ----------
    C. Shimmin et al., Phys. Rev. D 96 (2017) 074034.
    """

    def __init__(self, module: Trained, net: Net, steps: int) -> None:
        self._module, self._net = module, net
        self._rise = max(1, int(_RISE * steps))

    def __call__(self, rows: Columns) -> Tensor:
        """Return the loss of some rows of `columns`."""
        resonance = rows[_RESONANCE] if self._net.parametrised else None
        logit = self._module.tagger.logit(rows[_X], resonance)
        loss = binary_cross_entropy_with_logits(logit, rows[_TRUTH], rows[_WEIGHT])
        if self._net.means:
            background = rows[_TRUTH] == 0
            score = torch.sigmoid(logit[background])
            loss = loss + self._price(score, rows, background)
        return loss

    def _price(self, score: Tensor, rows: Columns, background: Tensor) -> Tensor:
        mass = rows[_MASS][background]
        if self._net.means == "disco":
            return self._net.weight * distance_correlation(mass, score)
        self._module.steps += int(self._module.training)
        strength = self._net.weight * min(1.0, int(self._module.steps) / self._rise)
        given = [reversed_gradient(score, strength), rows[_LOG_PT][background]]
        if self._net.parametrised:
            given.append((rows[_RESONANCE][background] - 150.0) / 60.0)
        return self._module.adversary.loss(mass, *given).mean()


def tasks(recipe: Recipe) -> Iterator[tuple[Net, int]]:
    """Yield every training, seed by seed."""
    for net in nets(recipe):
        for seed in range(net.seeds):
            yield net, seed
