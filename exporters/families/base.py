"""Model families.

A family is a `Family` object called ``FAMILY``, in a subpackage here or behind an entry point of
the group ``sluice.families``; adding one needs no change elsewhere. docs/howto/add-a-family.md
walks through it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec

from sluice.pipeline.core.errors import ConfigError, did_you_mean
from sluice.pipeline.core.schema import Schema

#: Columns by name: arrays, or `Ragged`.
Events = dict[str, Any]
GROUP = "sluice.families"


class TrainOptions(msgspec.Struct, frozen=True):
    """Options of `sluice train`."""

    out: Path
    seed: int | None = None
    quick: bool = False
    resume: bool = False
    recipe: Path | None = None


class EvaluateOptions(msgspec.Struct, frozen=True):
    """Options of `sluice evaluate`."""

    data: Path | None = None
    plots: Path | None = None


@dataclass(frozen=True)
class LazyFunction:
    """A function of a family, imported when it is called, not before.

    Attributes
    ----------
    package
        Package of the family.
    place
        Module in it and name there, as in ``training.train``.
    """

    package: str
    place: str

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        module, _, name = self.place.rpartition(".")
        return getattr(import_module(f"{self.package}.{module}"), name)(*arguments)


@dataclass(frozen=True)
class Family:
    """All that the commands need of one model family.

    Each function imports what it needs when it is called.

    Attributes
    ----------
    name, description
        Name and description that the command line prints.
    recipe
        The file with every hyperparameter.
    schema
        Columns of a simulated event: ``event_id``, ``t_event``, ``truth``, and the detector's raw
        form.
    labels
        Names of the values of the column ``truth``.
    block
        (events, seed, number of the first) to simulated events as columns. An event depends on the
        seed and its number alone, or on the seed and its block's.
    train
        Train every net of the family; returns the metrics.
    export
        (checkpoint folder, model repository) to the folders written.
    evaluate
        Metrics of the models in the repository.
    block_events
        Events of a block; every block but the last is full.
    processes
        Default number of processes that simulate; more than one where events take long.
    packages
        What training and evaluation need beside torch and ONNX, by import name.
    """

    name: str
    description: str
    recipe: Path
    schema: Schema
    labels: tuple[str, ...]
    block: Callable[[int, int, int], Events]
    train: Callable[[TrainOptions], dict[str, float]]
    export: Callable[[Path, Path], list[Path]]
    evaluate: Callable[[EvaluateOptions], dict[str, Any]]
    block_events: int = 65_536
    processes: int = 1
    packages: tuple[str, ...] = ()

    def spans(self, events: int, first: int = 0) -> Iterator[tuple[int, int]]:
        """Yield the number of events and of the first of each block, from event `first` on."""
        for start in range(first, events, self.block_events):
            yield min(self.block_events, events - start), start


def names() -> list[str]:
    """Return the names of all families."""
    ours = {
        module.name
        for module in pkgutil.iter_modules(import_module(__package__).__path__)
        if module.ispkg
    }
    return sorted(ours | set(entry_points(group=GROUP).names))


def get(name: str) -> Family:
    """Return a family by name.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    known = names()
    if name not in known:
        raise ConfigError(f"family {name!r}: no such model family", hint=did_you_mean(name, known))
    others = entry_points(group=GROUP)
    if name in others.names:
        found: Family = others[name].load()
    else:
        found = import_module(f"{__package__}.{name}").FAMILY
    return found
