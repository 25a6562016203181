"""The jets family's hyperparameters, typed: the shape of ``recipe.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from sluice.exporters.training.loop import Schedule

PATH = Path(__file__).with_name("recipe.toml")
Count = Annotated[int, Meta(ge=1)]
Weight = Annotated[float, Meta(ge=0.0)]


class NetRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """The tables ``[net]`` and ``[narrow]``."""

    width: Count
    depth: Count


class AdversaryRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[adversary]``."""

    width: Count
    components: Count
    weight: Weight


class DiscoRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[disco]``."""

    weight: Weight


class ScanRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[scan]``."""

    adversary: tuple[Weight, ...]
    disco: tuple[Weight, ...]


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """All of ``recipe.toml``."""

    seed: int
    jets: Count
    chunk: Count
    workers: Count
    seeds: Count
    net: NetRecipe
    narrow: NetRecipe
    schedule: Schedule
    adversary: AdversaryRecipe
    disco: DiscoRecipe
    scan: ScanRecipe

    @property
    def blocks(self) -> int:
        """Number of blocks of two chunks in the data set."""
        return max(1, self.jets // (2 * self.chunk))
