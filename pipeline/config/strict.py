"""Conversion of plain tables to typed structs, unknown keys refused with the nearest known one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from sluice.pipeline.core.errors import ConfigError, nearest

T = TypeVar("T")

_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]+)`")


def convert(tables: Mapping[str, Any], kind: type[T], where: str) -> T:
    """Return `tables` as the struct `kind`, strictly.

    Raises
    ------
    ConfigError
        Naming the key, what was expected and what came; for an unknown key the nearest known one.
    """
    try:
        return msgspec.convert(tables, kind)
    except msgspec.ValidationError as error:
        text = str(error)
        unknown = _UNKNOWN.search(text)
        hint = nearest(unknown["key"], _keys(kind, text)) if unknown else None
        raise ConfigError(f"{where}: {text}", hint) from error


def _keys(kind: Any, text: str) -> list[str]:
    """Return the known keys of the struct in which msgspec met an unknown one (``$.graph``)."""
    path = text.partition("at `$")[2].strip("`.").replace("[...]", "")
    for step in path.split(".") if path else []:
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        kind = fields.get(step.partition("[")[0], kind)
        kind = next(_structs_in(kind), None)
        if kind is None:
            return []
    return [field.encode_name for field in msgspec.structs.fields(kind)]


def _structs_in(kind: Any) -> Iterator[Any]:
    """Yield the structs that a type is made of, such as those of ``dict[str, str | Path]``."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield kind
    for inner in getattr(kind, "__args__", ()):
        yield from _structs_in(inner)
