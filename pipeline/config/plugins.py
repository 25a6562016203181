"""Finding sources, stages, monitors, sinks and backends by the name that a graph file uses.

Entry points name them, ours like anyone's: groups ``sluice.sources``, ``sluice.stages``,
``sluice.monitors``, ``sluice.sinks``, ``sluice.backends``. The stages and monitors of our detectors
are found without: ``wafer.unpack`` is ``STAGES["unpack"]`` of the module ``detectors/wafer.py``, so
that another detector is another file.
"""

from __future__ import annotations

import pkgutil
import sys
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoints, entry_points
from importlib.util import find_spec
from typing import Any

from sluice.pipeline.core.errors import ConfigError, did_you_mean

from .graph_file import ComponentConfig
from .strict import strict_convert

_PIPELINE = __package__.rpartition(".")[0]
_DETECTORS = f"{_PIPELINE}.detectors"
#: What a detector's module calls its parts, by kind.
_TABLES = {"stage": "STAGES", "monitor": "MONITORS"}
#: Names of an earlier release, by kind; they hold until the next one.
_RENAMED = {"stage": {"device": "gpu-chain"}}


def _group(kind: str) -> EntryPoints:
    """Return the entry points of a kind of part."""
    points: EntryPoints = _entry_points(tuple(sys.path)).select(group=f"sluice.{kind}s")
    return points


@cache
def _entry_points(_: tuple[str, ...]) -> Any:  # before Python 3.12 of another type
    """Return all entry points along a path, once: it takes a file of each package there is."""
    return entry_points()


def load_class(kind: str, use: str, where: str) -> Any:
    """Return the class called `use`: an entry point of ``sluice.<kind>s``, or a detector's own.

    Raises
    ------
    ConfigError
        If nothing is called so, or its module cannot be imported.
    """
    group, use = _group(kind), _RENAMED.get(kind, {}).get(use, use)
    module, _, part = use.partition(".")
    try:
        if use in group.names:
            return group[use].load()
        if kind in _TABLES and module.isidentifier() and find_spec(f"{_DETECTORS}.{module}"):
            return detector_table(kind, module)[part]
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{where}: {kind} {use!r} cannot be loaded: {error}",
            hint="a missing package? the README lists the extras: pip install 'sluice-daq[cpu]'",
        ) from error
    except KeyError:
        pass
    raise ConfigError(f"{where}: no {kind} is called {use!r}", did_you_mean(use, available(kind)))


def module_of(kind: str, use: str) -> str | None:
    """Return the name of our own module that has the part called `use`; nothing is imported."""
    group, use = _group(kind), _RENAMED.get(kind, {}).get(use, use)
    if use in group.names:
        found = group[use].module
        return found if found.startswith(f"{_PIPELINE}.") else None
    module = use.partition(".")[0]
    return f"{_DETECTORS}.{module}" if kind in _TABLES and module.isidentifier() else None


def detector_table(kind: str, module: str) -> dict[str, Any]:
    """Return the stages or monitors in a module of ``pipeline/detectors`` by name."""
    table: dict[str, Any] = getattr(import_module(f"{_DETECTORS}.{module}"), _TABLES[kind], {})
    return table


def available(kind: str) -> list[str]:
    """Return all that a graph file may use; imports every detector's module."""
    known = set(_group(kind).names)
    if kind in _TABLES:
        modules = [found.name for found in pkgutil.iter_modules(import_module(_DETECTORS).__path__)]
        known |= {f"{module}.{part}" for module in modules for part in detector_table(kind, module)}
    return sorted(known)


def build(kind: str, part: ComponentConfig, origin: str) -> Any:
    """Return an instance of the part: ``cls(name, options)``, its options typed and checked."""
    where = f"{origin}: {kind} {part.name!r}"
    cls = load_class(kind, part.use, where)
    return cls(part.name, strict_convert(part.options, cls.Options, where))
