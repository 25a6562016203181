"""The one training loop: every net of every family goes through `fit`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from .muon import Muon, is_matrix
from .parallel import progress

#: One line of JSON a pass, beside the checkpoints.
METRICS = "metrics.jsonl"

Columns = tuple[Tensor, ...]
Loss = Callable[[Columns], Tensor]
Optimisers = list[torch.optim.Optimizer]


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one net is trained; a table of a recipe."""

    #: Passes over the training set.
    epochs: int
    #: Highest learning rate, reached after the warm-up, then falling as a cosine to 1 %.
    rate: float
    #: Events a step.
    batch: int = 512
    #: Share of the steps in which the rate rises.
    warmup: float = 0.05
    weight_decay: float = 0.0
    #: Passes without a better validation loss before training stops early.
    patience: int = 8
    #: Largest norm of the gradient; longer ones are shortened.
    clip: float = 1.0
    #: Highest rate of Muon, which trains matrices where above 0; AdamW trains all other weights.
    muon: float = 0.0
    #: Whether to keep the last weights, not the best: an adversary moves what the loss stands for.
    keep_last: bool = False


@dataclass(frozen=True)
class Job:
    """A net, its loss, and the events to train it on.

    Attributes
    ----------
    name
        Stem of its files, and its name in the metrics file.
    module
        The net; holds the best weights seen on `valid`, or the last, when `fit` returns.
    loss
        Mean loss of some rows of the columns.
    train, valid
        Columns with one leading axis; no event in both.
    """

    name: str
    module: nn.Module
    loss: Loss
    train: Columns
    valid: Columns
    schedule: Schedule


@dataclass
class TrainingState:
    """Where a job stands; what a checkpoint holds beside the weights."""

    epoch: int = 0
    best: float = math.inf
    since_best: int = 0
    weights: dict[str, Any] = field(default_factory=dict)


def fit(job: Job, seed: int, folder: Path, *, resume: bool = False) -> float:
    """Train a net and return its best validation loss.

    Each pass leaves a checkpoint ``<name>.last.pt`` and a line in ``metrics.jsonl``; the best
    weights end up in ``<name>.pt``. The order of events depends on the seed and the pass alone, so
    a resumed training ends where an uninterrupted one would.

    Parameters
    ----------
    job
        Net to train, with its loss and data.
    seed
        Seed of the shuffling.
    folder
        Folder to write the files to.
    resume
        Go on from the last checkpoint, if there is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    schedule = job.schedule
    optimisers = _optimisers(job)
    state = TrainingState()
    last = folder / f"{job.name}.last.pt"
    if resume and last.exists():
        state = _restore(last, job.module, optimisers)
    with progress() as bar:
        task = bar.add_task(job.name, total=schedule.epochs, completed=state.epoch)
        while state.epoch < schedule.epochs and state.since_best < schedule.patience:
            started = time.monotonic()
            trained = _pass(job, optimisers, state.epoch, seed)
            validated = _validate(job)
            _account(state, validated, job.module, schedule.keep_last)
            _save(last, state, job.module, optimisers)
            _log(folder, job.name, seed, state, trained, validated, time.monotonic() - started)
            bar.update(task, advance=1, description=f"{job.name} {validated:.4g}")
    job.module.load_state_dict(state.weights)
    torch.save(state.weights, folder / f"{job.name}.pt")
    return state.best


def _optimisers(job: Job) -> Optimisers:
    schedule, weights = job.schedule, list(job.module.parameters())
    matrices = [one for one in weights if schedule.muon and is_matrix(one)]
    others = [one for one in weights if not (schedule.muon and is_matrix(one))]
    found: Optimisers = []
    if matrices:
        found.append(Muon([{"params": matrices, "peak": schedule.muon}], schedule.muon))
    if others:
        groups = [{"params": others, "peak": schedule.rate}]
        found.append(torch.optim.AdamW(groups, schedule.rate, weight_decay=schedule.weight_decay))
    return found


def _pass(job: Job, optimisers: Optimisers, epoch: int, seed: int) -> float:
    torch.manual_seed(seed * 100_003 + epoch)
    schedule, events = job.schedule, len(job.train[0])
    steps = max(1, events // schedule.batch)
    order = torch.randperm(events)
    total = 0.0
    job.module.train()
    for step in range(steps):
        share = (epoch + step / steps) / schedule.epochs
        for group in (group for one in optimisers for group in one.param_groups):
            group["lr"] = group["peak"] * _rate(share, schedule.warmup)
        rows = order[step * schedule.batch : (step + 1) * schedule.batch]
        loss = job.loss(tuple(column[rows] for column in job.train))
        job.module.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(job.module.parameters(), schedule.clip)
        for optimiser in optimisers:
            optimiser.step()
        total += loss.item()
    return total / steps


def _rate(share: float, warmup: float) -> float:
    if share < warmup:
        return share / warmup + 1e-3
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * (share - warmup) / (1.0 - warmup)))


@torch.no_grad()
def _validate(job: Job, batch: int = 8192) -> float:
    job.module.eval()
    total, events = 0.0, len(job.valid[0])
    for start in range(0, events, batch):
        rows = tuple(column[start : start + batch] for column in job.valid)
        total += job.loss(rows).item() * len(rows[0])
    return total / events


def _account(state: TrainingState, validated: float, module: nn.Module, keep_last: bool) -> None:
    state.epoch += 1
    state.since_best += 1
    if keep_last or validated < state.best or not state.weights:
        state.best, state.since_best = validated, 0
        state.weights = {k: v.clone() for k, v in module.state_dict().items()}


def _save(path: Path, state: TrainingState, module: nn.Module, optimisers: Optimisers) -> None:
    # Written aside and renamed: a training that is killed while writing still resumes.
    aside = path.with_suffix(".part")
    moments = [optimiser.state_dict() for optimiser in optimisers]
    torch.save([vars(state), module.state_dict(), moments], aside)
    aside.replace(path)


def _restore(path: Path, module: nn.Module, optimisers: Optimisers) -> TrainingState:
    state, weights, moments = torch.load(path, weights_only=True)
    module.load_state_dict(weights)
    for optimiser, moment in zip(optimisers, moments, strict=True):
        optimiser.load_state_dict(moment)
    return TrainingState(**state)


def _log(
    folder: Path,
    name: str,
    seed: int,
    state: TrainingState,
    trained: float,
    validated: float,
    seconds: float,
) -> None:
    line = {
        "net": name,
        "seed": seed,
        "epoch": state.epoch,
        "train": trained,
        "valid": validated,
        "best": state.best,
        "seconds": round(seconds, 3),
    }
    with (folder / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
