"""Sources for input files, chosen by the content of the file."""

from __future__ import annotations

from glob import has_magic
from pathlib import Path

from sluice.pipeline.config.graph_file import ComponentConfig, GraphConfig
from sluice.pipeline.config.plugins import load_class
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.sources.tables.files import find_inputs
from sluice.pipeline.sources.tables.formats import detect_format

#: Sources of tables, which share the option `columns`.
_TABLES = {"arrow", "csv", "hdf5", "parquet", "root"}
#: Sources that say nothing of a file to replay: a socket, memory, or a recorded run.
_OTHERS = {"live", "memory", "same-batches"}
#: Last part of a name to source, for files whose content is damaged, if the graph names none.
_SUFFIXES = {
    ".arrow": "arrow",
    ".arrows": "recording",
    ".csv": "csv",
    ".feather": "arrow",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".lh5": "hdf5",
    ".parquet": "parquet",
    ".root": "root",
}


def source_for(path: Path, config: GraphConfig) -> ComponentConfig:
    """Return the source that reads `path`, chosen by the content of the file.

    The options of the graph's own source are used if it is of the same kind, and its `columns` if
    both are tables.

    Raises
    ------
    ConfigError, DataError
        If no source reads such a file.
    """
    own = config.source
    use = own.use if _is_of_a_plugin(own) else _source_name(path, own.use)
    if own.use == use:
        kept = own.options
    elif {own.use, use} <= _TABLES:
        kept = {key: value for key, value in own.options.items() if key == "columns"}
    else:
        kept = {}
    return ComponentConfig(use, str(path), {**kept, "path": str(path)})


def find_format(path: Path) -> str:
    """Return the name of the source that reads the files of a path, by their content."""
    return _source_name(path, "")


def _is_of_a_plugin(own: ComponentConfig) -> bool:
    """Whether the graph's source is none of ours, and reads a file."""
    if own.use in _TABLES | _OTHERS | {"recording"}:
        return False
    options = getattr(load_class("source", own.use, own.name), "Options", None)
    return "path" in getattr(options, "__struct_fields__", ())


def _source_name(path: Path, own: str) -> str:
    """Return the source of a file; the graph's own where the content does not show it."""
    file = _first_file(path)
    if file is None:  # a pipe, a folder, or none
        return own if own in _TABLES and not path.exists() else "recording"
    found = detect_format(file)
    if found == "arrow" and own == "recording":
        return own
    if found is None and own not in _TABLES | {"recording"}:
        found = _SUFFIXES.get(file.suffix)
    if found is None and own not in _TABLES | {"recording"}:
        raise ConfigError(
            f"{path}: expected a recording, or a file of Arrow, Parquet, HDF5, ROOT or CSV, got "
            "content of no format that is known here",
            'if it is damaged, name its source in the graph: use = "hdf5"',
        )
    return found or own


def _first_file(path: Path) -> Path | None:
    """Return the file that shows the format of all files of a path; None if there is none."""
    if path.is_file():
        return path
    if has_magic(str(path)):
        return find_inputs(path)[0]
    return None
