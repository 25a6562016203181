"""Finding sources, stages, monitors, sinks and backends by the name that a graph file uses.

All of them are entry points, ours like anyone's: groups ``sluice.sources``, ``sluice.stages``,
``sluice.monitors``, ``sluice.sinks``, ``sluice.backends``.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from .config import Part, convert
from .errors import ConfigError, nearest


def load(kind: str, use: str, where: str) -> Any:
    """Return the class registered as `use` in the group ``sluice.<kind>s``.

    Raises
    ------
    ConfigError
        If nothing is registered so, or its module cannot be imported.
    """
    group = entry_points(group=f"sluice.{kind}s")
    if use not in group.names:
        raise ConfigError(f"{where}: no {kind} is called {use!r}", nearest(use, group.names))
    try:
        return group[use].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{where}: {kind} {use!r} cannot be loaded: {error}",
            hint="a missing package? the README lists the extras: pip install 'sluice-daq[cpu]'",
        ) from error


def build(kind: str, part: Part, origin: str) -> Any:
    """Return an instance of the part: ``cls(name, options)``, its options typed and checked."""
    where = f"{origin}: {kind} {part.name!r}"
    cls = load(kind, part.use, where)
    return cls(part.name, convert(part.options, cls.Options, where))
