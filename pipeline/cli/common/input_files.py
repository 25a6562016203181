"""Files that a run reads: graph file, inputs, components, models, keys, reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice.pipeline.config.graph_file import ComponentConfig, GraphConfig
from sluice.pipeline.core.errors import SluiceError

if TYPE_CHECKING:
    from sluice.pipeline.service.session import RunOptions


def input_files(config: GraphConfig, options: RunOptions) -> Iterator[Path]:
    """Yield the files that a run reads.

    Any text in the options of a component may be a path or a pattern, so each counts.

    Parameters
    ----------
    config
        Graph of the run.
    options
        Run options.
    """
    yield Path(config.origin)
    folder = Path(config.origin).parent
    texts = [config.http.token_file, config.workers.security.key, *config.workers.security.allow]
    texts += [str(options.reference)] if options.reference else []
    for part in (config.source, *config.stages, *config.monitors):
        texts += _texts(part.options)
        yield from _model_files(part)
    for text in texts:
        yield from _files_of(text)
    for part in (config.source, *config.stages, *config.monitors, config.sink):
        component = folder / part.use.partition(":")[0]
        if component.exists():  # else it names no file: the component ships, or is in a module
            yield component


def _texts(value: Any) -> list[str]:
    """Return all text in the value of an option."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []


def _files_of(text: str) -> Iterator[Path]:
    """Yield the files that a path, a pattern, a folder or the name of a recording stands for."""
    from sluice.pipeline.recording import find_parts

    if not text or "\0" in text:
        return
    path = Path(text)
    with suppress(OSError, ValueError):  # too long for a path
        found = glob(text, recursive=True) if has_magic(text) else []
        for file in [path, *map(Path, found)]:
            yield from file.iterdir() if file.is_dir() else [file]
        yield from find_parts(path).values()


def _model_files(part: ComponentConfig) -> Iterator[Path]:
    from sluice.pipeline.inference.repository import find_model

    name, version = part.options.get("model"), part.options.get("version")
    if isinstance(name, str):
        with suppress(SluiceError, TypeError, ValueError):  # the stage reports a missing model
            yield from find_model(name, version).folder.iterdir()
