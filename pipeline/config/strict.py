"""Conversion of plain tables to typed structs, unknown keys refused with the nearest known one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from sluice.pipeline.core.errors import ConfigError, did_you_mean

T = TypeVar("T")

_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]+)`")


def strict_convert(
    tables: Mapping[str, Any],
    kind: type[T],
    where: str,
    renamed: Mapping[str, Mapping[str, str]] | None = None,
) -> T:
    """Return `tables` as the struct `kind`, strictly.

    Parameters
    ----------
    tables
        Tables, parsed from TOML or JSON.
    kind
        Type of the struct.
    where
        Name of the file or tables, for error messages.
    renamed
        Keys of files that an earlier release wrote: name of a table (of a list of tables) in
        `tables` to its old keys and what they are called now.

    Raises
    ------
    ConfigError
        If a key or value is wrong; the message has the key, what was expected and found, and for
        an unknown key the nearest known one.
    """
    if renamed:
        tables = {
            name: _with_new_keys(table, renamed.get(name, {})) for name, table in tables.items()
        }
    try:
        return msgspec.convert(tables, kind)
    except msgspec.ValidationError as error:
        text = str(error)
        unknown = _UNKNOWN.search(text)
        hint = did_you_mean(unknown["key"], _keys(kind, text)) if unknown else None
        raise ConfigError(f"{where}: {text}", hint) from error


def _with_new_keys(table: Any, renamed: Mapping[str, str]) -> Any:
    """Return a table, or each of a list of tables, with old keys replaced by the new ones."""
    if isinstance(table, list):
        return [_with_new_keys(one, renamed) for one in table]
    if not isinstance(table, dict) or not renamed:
        return table
    return {renamed.get(key, key): value for key, value in table.items()}


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
