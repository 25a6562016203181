"""Checks of output paths before a run starts: new, writable, no input, not each other."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.core.errors import ConfigError

if TYPE_CHECKING:
    from sluice.pipeline.run.run_outputs import RunOutputs
    from sluice.pipeline.service.session import RunOptions


def require_run_number_in_paths(config: GraphConfig, out: Path | None, options: RunOptions) -> None:
    """Raise ConfigError if later runs of a waiting daemon would overwrite files of earlier ones."""
    path = config.sink.options.get("path") if out is None else str(out)
    outputs = (("--report", options.report), ("--quarantine", options.quarantine), ("sink", path))
    for name, value in outputs:
        if value is not None and "{run" not in str(value):
            raise ConfigError(
                f"{name} {value}: expected {{run}} in it, so that each run has a file of its own",
                hint="with --wait several runs may come",
            )
    if options.resume:
        raise ConfigError("--resume: expected none with --wait: it makes one run after the other")
    if options.run is not None:
        raise ConfigError("--run: expected none with --wait: each run takes the next number")


def require_outputs(config: GraphConfig, options: RunOptions) -> None:
    """Check the output files of a run; creates nothing.

    Raises
    ------
    ConfigError
        If an output is a file that the run reads, two outputs are one file, or one exists and may
        not be replaced.
    """
    from sluice.pipeline.config.plugins import build
    from sluice.pipeline.run.run_numbers import UNNUMBERED
    from sluice.pipeline.run.run_outputs import RunOutputs

    from .input_files import input_files

    _require_text(config, options)
    sink = build("sink", config.sink, config.origin)
    every = RunOutputs(sink=sink, report=options.report, quarantine=options.quarantine, force=True)
    run = UNNUMBERED if options.run is None else options.run
    paths = _output_paths(config, every, run)
    inputs = list(input_files(config, options))
    for path in paths:
        _refuse_input(path, inputs)
    _refuse_same(paths)
    outputs = options.outputs(sink)
    # Without a given number those that depend on it are named when the number is known.
    if options.run is None:
        fixed = {output.path for output in outputs.of_run(UNNUMBERED + 1)}
        outputs.require_replaceable(UNNUMBERED, only=fixed)
    elif not options.resume:
        outputs.require_replaceable(run)


def _require_text(config: GraphConfig, options: RunOptions) -> None:
    """Raise ConfigError for a path that reports and recordings cannot hold as text."""
    try:
        msgspec.json.encode((config, str(options.report), str(options.quarantine)))
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{error.object!a}: expected a name that is UTF-8, got other bytes in it",
            hint="rename it; in a locale without UTF-8, such as C, set PYTHONUTF8=1",
        ) from error


def _output_paths(config: GraphConfig, outputs: RunOutputs, run: int) -> list[Path]:
    """Return the paths of all outputs, also that of a sink of another package."""
    paths = [output.path for output in outputs.of_run(run)]
    path = config.sink.options.get("path")
    if isinstance(path, str) and not outputs.of_sink(run):
        paths.append(Path(path))
    return paths


def _refuse_input(path: Path, inputs: list[Path]) -> None:
    for file in inputs:
        if _is_same(path, file):
            raise ConfigError(
                f"{path}: expected a file of its own for each input and output, but this is "
                f"{file}, which the run reads"
            )


def _refuse_same(paths: list[Path]) -> None:
    for index, path in enumerate(paths):
        for other in paths[:index]:
            if _is_same(path, other) and not path.is_char_device():
                raise ConfigError(
                    f"{path}: expected a file of its own for each input and output, got the same "
                    f"as {other}"
                )


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, also by links, whether or not it exists."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def accepted_path(path: Path) -> Path:
    """Return the default path for the accepted events of an input.

    Examples
    --------
    >>> accepted_path(Path("data/run-*.arrows"))
    PosixPath('run.accepted.arrows')
    """
    stem = re.sub(r"[*?\[\]]+", "", path.resolve().stem).strip("-_.")
    return Path(f"{stem or 'replay'}.accepted.arrows")
