"""What a graph file writes for a column: dtype and item shape, such as ``uint32[12]``."""

from __future__ import annotations

import re

import numpy as np

from ..batch import Column
from ..errors import ConfigError

_FORM = re.compile(r"(?P<dtype>\w+)(\[(?P<shape>\d+(,\d+)*)\])?")


def column_of(name: str, form: str, where: str, unit: str = "1") -> Column:
    """Return the column that `form` describes; ConfigError, naming `where`, if it is none.

    Examples
    --------
    >>> column_of("words", "uint32[12]", "here").shape
    (12,)
    """
    match = _FORM.fullmatch(form)
    try:
        dtype = np.dtype(match["dtype"]) if match else None
    except TypeError:
        dtype = None
    if match is None or dtype is None or dtype.kind not in "iuf":
        raise ConfigError(
            f"{where}: column {name!r}: expected numbers, such as 'uint32[12]', got {form!r}"
        )
    shape = tuple(int(n) for n in match["shape"].split(",")) if match["shape"] else ()
    return Column(name, str(dtype), shape, unit)
