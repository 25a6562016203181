"""The cosmics family's hyperparameters, typed: the shape of ``recipe.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from sluice.exporters.training.loop import Schedule

PATH = Path(__file__).with_name("recipe.toml")
Share = Annotated[float, Meta(ge=0.0, lt=1.0)]
Count = Annotated[int, Meta(ge=1)]


class Net(Struct, frozen=True, forbid_unknown_fields=True):
    """A table in ``[nets]``."""

    #: The strips' images, both or none, and the hodoscope.
    sees: tuple[Literal["z", "phi", "hodoscope"], ...]
    channels: tuple[Count, Count, Count, Count, Count]
    hidden: tuple[Count, Count]
    dropout: Share
    #: Trainings, which differ in start and order; the first one ships.
    seeds: Count
    schedule: Schedule


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """All of ``recipe.toml``."""

    seed: int
    workers: Count
    events: Count
    validation: Share
    nets: dict[str, Net]
