"""Import of components by ``module:Class`` or ``file.py:Class``.

A graph file that names a file runs that file's code: it is trusted like a program.
"""

from __future__ import annotations

import sys
import traceback
from hashlib import blake2b
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from sluice.pipeline.core.errors import ConfigError, did_you_mean


def import_object(use: str, where: str, folder: Path) -> Any:
    """Return the object that `use` names.

    Parameters
    ----------
    use
        ``module:Name`` or ``path.py:Name``.
    where
        Place in the graph file; error messages begin with it.
    folder
        Folder that relative paths start from.

    Raises
    ------
    ConfigError
        If the module or file cannot be imported, or has no such name.
    """
    module_name, _, name = use.rpartition(":")
    if module_name.endswith(".py"):
        module = _import_file((folder / module_name).absolute(), where)
        place = str((folder / module_name).absolute())
    else:
        module, place = _import_module(module_name, where), f"module {module_name}"
    found = getattr(module, name, None)
    if found is None:
        public = [known for known, value in vars(module).items() if _is_component(value, module)]
        raise ConfigError(f"{where}: {place} has no {name!r}", did_you_mean(name, public))
    return found


def _is_component(value: Any, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__


def _import_module(name: str, where: str) -> ModuleType:
    try:
        return import_module(name)
    except Exception as error:  # imported code may raise any exception
        hint = None
        if isinstance(error, ModuleNotFoundError):
            hint = "is it installed beside sluice? a file is named with its suffix: 'name.py:Class'"
        raise ConfigError(
            f"{where}: cannot import module {name!r}: {_describe(error)}", hint
        ) from error


def _import_file(path: Path, where: str) -> ModuleType:
    """Import a file under a module name that is unique to its path and content."""
    try:
        version = path.stat().st_mtime_ns
    except OSError as error:
        raise ConfigError(
            f"{where}: cannot import {path}: {error.strerror}",
            hint="the path begins at the folder of the graph file",
        ) from error
    digest = blake2b(f"{path}\0{version}".encode(), digest_size=8).hexdigest()
    name = f"sluice_component_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{where}: cannot import {path}: not a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # imported code may raise any exception
        del sys.modules[name]
        raise ConfigError(f"{where}: cannot import {path}: {_describe(error, path)}") from error
    return module


def _describe(error: Exception, path: Path | None = None) -> str:
    """Return type and text of an error, with the line of the file that raised it."""
    description = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if path is not None and frame.filename == str(path)]
    return f"line {lines[-1]}: {description}" if lines else description
