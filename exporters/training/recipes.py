"""Recipes: a family's hyperparameters in TOML, read into its own struct, strictly."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sluice.pipeline.config.strict import strict_convert
from sluice.pipeline.core.errors import ConfigError

T = TypeVar("T")


def load(path: Path, kind: type[T], *, quick: bool = False) -> T:
    """Return the recipe in `path`, its table ``[quick]`` laid over the rest if asked.

    Parameters
    ----------
    path
        A TOML file.
    kind
        A struct that forbids unknown fields; the table ``[quick]`` is none of them.
    quick
        Whether to train small and crude.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or value is wrong.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"recipe {path}: cannot read: {error}") from error
    over = tables.pop("quick", {})
    return strict_convert(overlay(tables, over) if quick else tables, kind, f"recipe {path}")


def overlay(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `under` with the leaves of `over` put in their places.

    Examples
    --------
    >>> overlay({"net": {"width": 8, "depth": 2}}, {"net": {"width": 4}})
    {'net': {'width': 4, 'depth': 2}}
    """
    merged = dict(under)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(under.get(key), dict)
        merged[key] = overlay(under[key], value) if nested else value
    return merged


def digest(recipe: Any) -> str:
    """Return the hex SHA-256 of a recipe's values."""
    return hashlib.sha256(msgspec.json.encode(recipe)).hexdigest()
