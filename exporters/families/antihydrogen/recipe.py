"""The antihydrogen family's hyperparameters, typed: the shape of ``recipe.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from sluice.exporters.training import recipes
from sluice.exporters.training.loop import Schedule

PATH = Path(__file__).with_name("recipe.toml")
Share = Annotated[float, Meta(ge=0.0, lt=1.0)]
Count = Annotated[int, Meta(ge=1)]


class Net(Struct, frozen=True, forbid_unknown_fields=True):
    """A table in ``[nets]``."""

    channels: tuple[Count, Count, Count, Count, Count]
    hidden: tuple[Count, Count]
    dropout: Share
    #: Whether training events are shifted along z.
    shifted: bool
    #: Trainings, which differ in start and order; the first one ships.
    seeds: Count
    schedule: Schedule


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """All of ``recipe.toml``."""

    seed: int
    #: Processes that train side by side, each on one core.
    workers: Count
    events: Count
    validation: Share
    shift: tuple[int, int]
    nets: dict[str, Net]


def load(path: Path | None = None, *, quick: bool = False) -> Recipe:
    """Return the recipe in `path`, or the family's own."""
    return recipes.load(path or PATH, Recipe, quick=quick)
