"""The wafer family's hyperparameters, typed: the shape of ``recipe.toml``."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from sluice.exporters.train import Schedule
from sluice.pipeline.errors import ConfigError, nearest

PATH = Path(__file__).with_name("recipe.toml")
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=1)]


class EmdRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[emd]``."""

    #: Pairs labelled with their exact distance, from each source of pairs.
    pairs: Count
    planes: Count
    hidden: Count
    schedule: Schedule


class AutoencoderRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[autoencoder]``: a warm start on the cross-entropy, then the EMD surrogate."""

    blend: Share
    warm: Schedule
    fine: Schedule


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
    emd: EmdRecipe
    autoencoder: AutoencoderRecipe
    tagger: TaggerRecipe
    quick: dict[str, Any] = {}


def load(path: Path | None = None, *, quick: bool = False) -> Recipe:
    """Return the recipe in `path` or the family's own, its table ``[quick]`` laid over if asked.

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
    try:
        return msgspec.convert(tables, Recipe)
    except msgspec.ValidationError as error:
        raise ConfigError(f"recipe {path}: {error}", _hint(str(error))) from error


def overlay(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `under` with the leaves of `over` put in their places."""
    merged = dict(under)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(under.get(key), dict)
        merged[key] = overlay(under[key], value) if nested else value
    return merged


def digest(recipe: Recipe) -> str:
    """Return the hex SHA-256 of a recipe's values."""
    return hashlib.sha256(msgspec.json.encode(recipe)).hexdigest()


def _hint(message: str) -> str | None:
    unknown = re.search(r"unknown field `([^`]+)`", message)
    structs = (Recipe, EmdRecipe, AutoencoderRecipe, TaggerRecipe, Schedule)
    return (
        nearest(unknown[1], {f for s in structs for f in s.__struct_fields__}) if unknown else None
    )
