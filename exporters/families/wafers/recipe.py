"""The wafer family's hyperparameters, typed: the shape of ``recipe.toml``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from sluice.exporters.training.loop import Schedule
from sluice.exporters.training.recipes import overlay
from sluice.pipeline.config.strict import strict_convert
from sluice.pipeline.core.errors import ConfigError

PATH = Path(__file__).with_name("recipe.toml")
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=1)]


class Repeats(Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``repeats``: wafers with pile-up, and wafers with few cells."""

    busy: Annotated[int, Meta(ge=0)]
    sparse: Annotated[int, Meta(ge=0)]


class PairsRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """Training pairs and schedule of any surrogate."""

    #: Number of pairs of a wafer with another one or with a codec's output for it.
    pairs: Count
    #: Number of further pairs with encoders' outputs, as a share of all pairs.
    decoded: Annotated[float, Meta(ge=0.0, lt=1.0)]
    schedule: Schedule


class NormRecipe(PairsRecipe, frozen=True):
    """A table in ``[emd.nets]``: a surrogate that is nearly a norm."""

    #: A third of the width of each layer, the first being the planes'.
    widths: Annotated[tuple[Count, ...], Meta(min_length=2)]


class CnnRecipe(PairsRecipe, frozen=True):
    """The table ``[emd.cnn]``: the published surrogate."""

    filters: Count
    hidden: Count


class EmdRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[emd]``."""

    guide: str
    guide_epochs: Count
    nets: dict[str, NormRecipe]
    cnn: CnnRecipe


class AutoencoderRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[autoencoder]``: a warm start, then one of four losses."""

    seeds: Count
    width: Count
    blend: Share
    warm: Schedule
    fine: Schedule
    long: Schedule


class TaggerRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[tagger]``."""

    #: Width of each hidden layer.
    hidden: tuple[Count, ...]
    schedule: Schedule


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """All of ``recipe.toml``."""

    seed: int
    events: Count
    validation: Share
    coded: Share
    repeats: Repeats
    workers: Count
    autoencoder: AutoencoderRecipe
    emd: EmdRecipe
    tagger: TaggerRecipe
    quick: dict[str, Any] = {}


def load(path: Path | None = None, *, quick: bool = False) -> Recipe:
    """Return the recipe in `path` or the family's own, with its table ``[quick]`` applied if asked.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or value is wrong.
    """
    path = path or PATH
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"recipe {path}: cannot read: {error}") from error
    if quick:
        tables = overlay(tables, tables.get("quick", {}))
    return strict_convert(tables, Recipe, f"recipe {path}")
