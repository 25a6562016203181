"""Checks of output paths: not the input, not each other, writable."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.core.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from sluice.pipeline.service.session import RunOptions


def side_files(options: RunOptions, report: Path | None) -> list[Path | None]:
    """Return the files that a run writes in addition to those of its sink."""
    from sluice.pipeline.run.run_numbers import UNNUMBERED, expand_run_number

    return [
        expand_run_number(report, UNNUMBERED),
        expand_run_number(options.quarantine, UNNUMBERED),
    ]


def require_run_number_in_paths(
    config: GraphConfig, out: Path | None, options: RunOptions, report: Path | None
) -> None:
    """Raise ConfigError if later runs of a waiting daemon would overwrite files of earlier ones."""
    path = config.sink.options.get("path") if out is None else str(out)
    for name, value in (("--report", report), ("--quarantine", options.quarantine), ("sink", path)):
        if value is not None and "{run" not in str(value):
            raise ConfigError(
                f"{name} {value}: expected {{run}} in it, so that each run has a file of its own",
                hint="with --wait several runs may come",
            )
    if options.resume:
        raise ConfigError("--resume: expected none with --wait: it makes one run after the other")
    if options.run is not None:
        raise ConfigError("--run: expected none with --wait: each run takes the next number")


def refuse_collisions(config: GraphConfig, *beside: Path | None) -> None:
    """Raise ConfigError if an output is the input, or two outputs are the same file."""
    inside = [part.options.get("path") for part in (config.source, config.sink)]
    paths = [Path(str(path)).resolve() for path in (*inside, *beside) if path is not None]
    for path in paths:
        if paths.count(path) > 1:
            raise ConfigError(f"{path}: expected a file of its own for each input and output")
    _refuse_input_in_parts(config)
    folder = next((path for path in beside if path is not None and path.is_dir()), None)
    if folder is not None:
        raise ConfigError(f"{folder}: expected a file, got a folder")
    for other in beside:
        if other is not None:
            _require_writable(other)


def _refuse_input_in_parts(config: GraphConfig) -> None:
    """Raise ConfigError if the input is a file of the rotated recording to be written."""
    from sluice.pipeline.recording import find_files, parse_part_name

    ours, theirs = config.sink.options, config.source.options.get("path")
    if config.source.use != "recording" or theirs is None or "path" not in ours:
        return
    out = Path(str(ours["path"])).resolve()
    with suppress(DataError):  # the source reports the error when it is opened
        for file in find_files(Path(str(theirs))):
            named = parse_part_name(file.resolve())
            if named is not None and named[0] == out:
                raise ConfigError(f"{file}: expected a file of its own for each input and output")


def _require_writable(path: Path) -> None:
    """Raise ConfigError if a path cannot be written; creates no folders."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if there != path and not there.is_dir():
        raise ConfigError(f"{path}: cannot write there: Not a directory")
    if not os.access(there, os.W_OK):
        raise ConfigError(f"{path}: cannot write there")


def create_folders(*paths: Path | None) -> None:
    """Create the folders of output files."""
    for path in filter(None, paths):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{path}: cannot write there: {error.strerror}") from error


def write(path: Path, text: str) -> None:
    """Write a report; RunError if that fails."""
    try:
        path.write_text(text)
    except OSError as error:
        raise RunError(f"report: cannot write {path}: {error.strerror}") from error


def accepted_path(path: Path) -> Path:
    """Return the default path for the accepted events of an input.

    Examples
    --------
    >>> accepted_path(Path("data/run-*.arrows"))
    PosixPath('run.accepted.arrows')
    """
    stem = re.sub(r"[*?\[\]]+", "", path.resolve().stem).strip("-_.")
    return Path(f"{stem or 'replay'}.accepted.arrows")
