"""Registry of components: sources, stages, monitors, sinks and backends by name.

Entry points name them, ours like anyone's: groups ``sluice.sources``, ``sluice.stages``,
``sluice.monitors``, ``sluice.sinks``, ``sluice.backends``. The stages and monitors of our detectors
are found without: ``wafer.unpack`` is ``STAGES["unpack"]`` of the module ``detectors/wafer.py``, so
that another detector is another file. All but backends may also be given by where their class is:
``module:Class``, or ``file.py:Class`` with a path relative to the graph file.
"""

from __future__ import annotations

import pkgutil
import sys
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoints, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from msgspec import Struct

from sluice.pipeline.core.errors import ConfigError, did_you_mean

from .component_file import import_object
from .graph_file import ComponentConfig
from .strict import strict_convert

_PIPELINE = __package__.rpartition(".")[0]
_DETECTORS = f"{_PIPELINE}.detectors"
#: Name of the table of components in a detector's module, by kind.
_TABLES = {"stage": "STAGES", "monitor": "MONITORS"}
#: Names of an earlier release and their current names, by kind; still accepted.
_RENAMED = {"stage": {"device": "gpu-chain"}}
#: A colon in the name of a backend separates it from its device.
_BY_NAME_ALONE = "backend"


class NoOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a component that declares none."""


def _group(kind: str) -> EntryPoints:
    """Return the entry points of a kind of component."""
    points: EntryPoints = _entry_points(tuple(sys.path)).select(group=f"sluice.{kind}s")
    return points


@cache
def _entry_points(_: tuple[str, ...]) -> Any:  # before Python 3.12 of another type
    """Return all entry points along a path; cached, because it reads a file of every package."""
    return entry_points()


def load_class(kind: str, use: str, where: str, folder: Path | None = None) -> Any:
    """Return the class that `use` names.

    Parameters
    ----------
    kind
        ``source``, ``stage``, ``monitor``, ``sink`` or ``backend``.
    use
        An entry point of ``sluice.<kind>s``, a detector's own, ``module:Class`` or
        ``file.py:Class``.
    where
        Place in the graph file, for error messages.
    folder
        Folder of the graph file, for relative paths; by default the current one.

    Raises
    ------
    ConfigError
        If there is no such component, or its module cannot be imported.
    """
    if _is_path(kind, use):
        found = import_object(use, f"{where}: {kind} {use!r}", folder or Path())
        return getattr(found, "component_class", found)
    group, use = _group(kind), _RENAMED.get(kind, {}).get(use, use)
    module, _, part = use.partition(".")
    try:
        if use in group.names:
            loaded = group[use].load()
            return getattr(loaded, "component_class", loaded)
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
    """Return the name of our own module that has the component; nothing is imported."""
    group, use = _group(kind), _RENAMED.get(kind, {}).get(use, use)
    if use in group.names or _is_path(kind, use):
        found = use.partition(":")[0] if _is_path(kind, use) else group[use].module
        return found if found.startswith(f"{_PIPELINE}.") else None
    module = use.partition(".")[0]
    return f"{_DETECTORS}.{module}" if kind in _TABLES and module.isidentifier() else None


def _is_path(kind: str, use: str) -> bool:
    """Whether `use` is a module or file with a class, and not a name."""
    return kind != _BY_NAME_ALONE and ":" in use


def detector_table(kind: str, module: str) -> dict[str, Any]:
    """Return the stages or monitors in a module of ``pipeline/detectors`` by name."""
    table: dict[str, Any] = getattr(import_module(f"{_DETECTORS}.{module}"), _TABLES[kind], {})
    return table


def available(kind: str) -> list[str]:
    """Return all names that a graph file may use; imports every detector's module."""
    known = set(_group(kind).names)
    if kind in _TABLES:
        modules = [found.name for found in pkgutil.iter_modules(import_module(_DETECTORS).__path__)]
        known |= {f"{module}.{part}" for module in modules for part in detector_table(kind, module)}
    return sorted(known)


def build(kind: str, part: ComponentConfig, origin: str) -> Any:
    """Return an instance of a component: ``cls(name, options)``, its options typed and checked.

    Parameters
    ----------
    kind
        ``source``, ``stage``, ``monitor`` or ``sink``.
    part
        Table of the component in the graph file.
    origin
        Path of the graph file, for messages and for components in files beside it.

    Raises
    ------
    ConfigError
        If there is no such component, or an option is wrong.
    """
    where = f"{origin}: {kind} {part.name!r}"
    cls = load_class(kind, part.use, where, Path(origin).parent)
    options = strict_convert(part.options, getattr(cls, "Options", NoOptions), where)
    try:
        return cls(part.name, options)
    except TypeError as error:
        if callable(cls) and error.__traceback__ and error.__traceback__.tb_next is not None:
            raise  # raised inside the constructor: a defect of the component itself
        raise ConfigError(
            f"{where}: {part.use!r}: expected a class made as cls(name, options), or a function "
            f"with @stage: {error}"
        ) from error
