"""Sources for input files, chosen by the suffix."""

from __future__ import annotations

from pathlib import Path

from sluice.pipeline.config.graph_file import ComponentConfig, GraphConfig
from sluice.pipeline.core.errors import ConfigError, did_you_mean

_SOURCES = {
    ".arrows": "recording",
    ".arrow": "recording",
    ".csv": "csv",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".parquet": "parquet",
    ".root": "root",
}
_TABLES = {"hdf5", "parquet", "root"}


def source_for(path: Path, config: GraphConfig) -> ComponentConfig:
    """Return the source that reads `path`, chosen by the suffix.

    The options of the graph's own source are used if it is of the same kind, and its `columns` if
    both are tables.

    Raises
    ------
    ConfigError
        If no source reads such a file.
    """
    use = "recording" if path.is_dir() else _SOURCES.get(path.suffix)
    if use is None:
        raise ConfigError(
            f"{path}: expected a file that ends in {', '.join(_SOURCES)}",
            did_you_mean(path.suffix, _SOURCES),
        )
    own = config.source
    if own.use == use:
        kept = own.options
    elif {own.use, use} <= _TABLES:
        kept = {key: value for key, value in own.options.items() if key == "columns"}
    else:
        kept = {}
    return ComponentConfig(use, str(path), {**kept, "path": str(path)})
