"""Fields that fill a column: by name, by a pattern, by their number, and as lists with an index."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterable, Mapping

import msgspec
import numpy as np

from sluice.pipeline.core.errors import ConfigError, DataError, did_you_mean
from sluice.pipeline.core.schema import Column

from .field import Field

#: Kinds of an index of lists, as the keys of a mapping.
INDEX_KINDS = ("offsets", "ends", "begins", "counts")
_MAX_SUGGESTIONS = 20


def find_fields(
    origin: str | tuple[str, ...], column: Column, fields: Mapping[str, Field], at: str
) -> tuple[Field, ...]:
    """Return the field of a name; those of its entries, of a pattern, or of several names."""
    if isinstance(origin, tuple):
        names = list(origin)
    elif origin in fields:
        names = [origin]
    else:
        names = _elements(origin, column, fields) or _matching(origin, fields) or [origin]
    for name in names:
        if name not in fields:
            raise DataError(
                f"{at}: expected {name!r} in the file, got no such column", _close(name, fields)
            )
    if not share_of(column, len(names)):
        wanted = f"{math.prod(column.item_shape)} names"
        if len(column.item_shape) > 1:
            wanted += f" or {column.item_shape[0]}"
        raise ConfigError(f"{at}: from: expected {wanted} for {column.spec}, got {len(names)}")
    return tuple(fields[name] for name in names)


def _elements(origin: str, column: Column, fields: Mapping[str, Field]) -> list[str]:
    """Return the names ``CALQ_0`` … ``CALQ_47`` for ``CALQ``, if all exist."""
    fixed = column.shape and not column.ragged
    names = [f"{origin}_{i}" for i in range(math.prod(column.item_shape))] if fixed else []
    return names if all(name in fields for name in names) else []


def _matching(pattern: str, fields: Mapping[str, Field]) -> list[str]:
    """Return the names that a pattern matches, ``ch2`` before ``ch10``."""
    return natural_order(name for name in fields if fnmatch.fnmatchcase(name, pattern))


def natural_order(names: Iterable[str]) -> list[str]:
    """Return names in the order of their texts and numbers.

    Examples
    --------
    >>> natural_order(["ch10", "ch9", "b"])
    ['b', 'ch9', 'ch10']
    """
    return sorted(names, key=_natural_key)


def _natural_key(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", name)
    # Text and numbers alternate; the digits tell 01 from 1.
    return [(int(part), part) if place % 2 else (0, part) for place, part in enumerate(parts)]


def share_of(column: Column, names: int) -> int:
    """Return the values of an item that each of several fields fills; 0 if that is not clear."""
    size = math.prod(column.item_shape)
    if names == 1:
        return size
    if names == size:
        return 1
    return size // names if column.item_shape[:1] == (names,) else 0


def as_lists(
    found: tuple[Field, ...], index: tuple[tuple[str, str], ...], fields: Mapping[str, Field],
    at: str,
) -> tuple[Field, ...]:  # fmt: skip
    """Return the fields as lists with the index that other fields have."""
    kinds = tuple(kind for kind, _ in index)
    if len(kinds) > 1 and set(kinds) != {"begins", "counts"}:
        raise ConfigError(
            f"{at}: expected one of {', '.join(INDEX_KINDS)}, or begins and counts, "
            f"got {', '.join(kinds)}"
        )
    lengths = {_index_field(kind, name, fields, at).events or 0 for kind, name in index}
    for field in found:
        if field.ragged:
            raise DataError(f"{at}: {field.name!r}: expected items, got lists: {field.form}")
    if len(lengths) > 1:
        raise DataError(f"{at}: expected begins and counts of one length, got {sorted(lengths)}")
    events = lengths.pop() - (kinds == ("offsets",))
    listed = {"events": max(0, events), "ragged": True, "index": index}
    return tuple(msgspec.structs.replace(field, **listed) for field in found)


def _index_field(kind: str, name: str, fields: Mapping[str, Field], at: str) -> Field:
    field = fields.get(name)
    if field is None:
        hint = did_you_mean(name, fields)
        raise DataError(f"{at}: {kind}: expected {name!r} in the file, got no such column", hint)
    if field.trouble or field.shape or field.ragged or np.dtype(field.dtype).kind not in "iu":
        raise DataError(f"{at}: {kind}: {name!r}: expected integers, got {field.form}")
    return field


def _close(origin: str, fields: Mapping[str, Field]) -> str | None:
    hint = did_you_mean(origin, fields)
    few = len(fields) <= _MAX_SUGGESTIONS or (hint and hint.startswith("did"))
    return hint if few else f"it has {len(fields)} others"
