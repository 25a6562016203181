"""Durations as graph files write them, such as ``5 ms``."""

from __future__ import annotations

import re

from sluice.pipeline.core.errors import ConfigError

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}


_DURATION = re.compile(r"\s*(?P<value>\d+(\.\d+)?)\s*(?P<unit>us|ms|s|min|h)\s*")


def parse_duration(duration: str, where: str) -> float:
    """Return a duration such as ``5 ms`` in seconds.

    Examples
    --------
    >>> parse_duration("250 us", "here")
    0.00025
    """
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ConfigError(
            f"{where}: expected a duration such as '5 ms', got {duration!r}",
            hint=f"units: {', '.join(_UNITS)}",
        )
    return float(match["value"]) * _UNITS[match["unit"]]
