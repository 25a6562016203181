"""Model families.

A family is a subpackage here that has a `FAMILY`; adding one needs no change elsewhere.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from sluice.pipeline.batch import Schema
from sluice.pipeline.errors import ConfigError, nearest

Events = dict[str, NDArray[Any]]


class TrainOptions(msgspec.Struct, frozen=True):
    """What `sluice train` was asked for."""

    out: Path
    seed: int | None = None
    quick: bool = False
    resume: bool = False
    recipe: Path | None = None


class EvaluateOptions(msgspec.Struct, frozen=True):
    """What `sluice evaluate` was asked for."""

    data: Path | None = None
    plots: Path | None = None


@dataclass(frozen=True)
class Family:
    """All that the commands need of one model family.

    Each function imports what it needs when it is called.

    Attributes
    ----------
    name, description
        As the command line prints them.
    recipe
        The file with every hyperparameter.
    schema
        Columns of a simulated event.
    labels
        Names of the values of the column ``truth``.
    blocks
        (events, seed) to batches of simulated events.
    train
        Train every net of the family; returns the metrics.
    export
        (checkpoint folder, model repository) to the folders written.
    evaluate
        Metrics of the models in the repository.
    """

    name: str
    description: str
    recipe: Path
    schema: Schema
    labels: tuple[str, ...]
    blocks: Callable[[int, int], Iterator[Events]]
    train: Callable[[TrainOptions], dict[str, float]]
    export: Callable[[Path, Path], list[Path]]
    evaluate: Callable[[EvaluateOptions], dict[str, Any]]


def names() -> list[str]:
    """Return the names of all families."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)


def get(name: str) -> Family:
    """Return a family by name.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    known = names()
    if name not in known:
        raise ConfigError(f"family {name!r}: no such model family", hint=nearest(name, known))
    family: Family = import_module(f"{__name__}.{name}").FAMILY
    return family
