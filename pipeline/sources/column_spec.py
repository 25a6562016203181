"""Column specifications of graph files: dtype and item shape, such as ``uint32[12]``."""

from __future__ import annotations

import re

import numpy as np

from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.schema import Column

_SPEC = re.compile(r"(?P<dtype>\w+)(\[(?P<shape>(\*|(<=)?\d{1,9})(,\d{1,9})*)\])?")


def parse_column(name: str, spec: str, where: str, unit: str = "1") -> Column:
    """Return the column that `spec` describes; ConfigError with `where` if `spec` is invalid.

    ``*`` as the first axis means lists of any length, ``<=512`` lists of at most 512 items.

    Examples
    --------
    >>> parse_column("words", "uint32[12]", "here").shape
    (12,)
    >>> parse_column("tracks", "float32[<=512,7]", "here").shape
    (None, 7)
    """
    match = _SPEC.fullmatch(spec)
    try:
        dtype = np.dtype(match["dtype"]) if match else None
    except TypeError:
        dtype = None
    if match is None or dtype is None or dtype.kind not in "iuf":
        raise ConfigError(
            f"{where}: column {name!r}: expected numbers, such as 'uint32[12]' or 'float32[*,7]', "
            f"got {spec!r}"
        )
    first, *rest = match["shape"].split(",") if match["shape"] else ("",)
    item = tuple(int(n) for n in rest)
    if first == "*":
        return Column(name, str(dtype), (None, *item), unit)
    if first.startswith("<="):
        return Column(name, str(dtype), (None, *item), unit, max_items=max(1, int(first[2:])))
    return Column(name, str(dtype), (int(first), *item) if first else (), unit)
