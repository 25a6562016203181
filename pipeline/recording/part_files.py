"""The files of a recording in parts: ``run.arrows`` becomes ``run-0001.arrows`` and so on.

The name alone says nothing: a file is a part if its schema's metadata says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from glob import escape, glob, has_magic
from pathlib import Path

import pyarrow as pa

from sluice.pipeline.core.errors import DataError

from .lock import await_writer
from .metadata import FilePart, part_of

_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{4,})", re.DOTALL)
_SUFFIXES = (".arrows", ".arrow")


def part_path(path: Path, number: int) -> Path:
    """Return the name of a part.

    Examples
    --------
    >>> part_path(Path("run-000007.arrows"), 3).name
    'run-000007-0003.arrows'
    """
    return path.with_name(f"{path.stem}-{number:04d}{path.suffix}")


def find_parts(path: Path) -> dict[int, Path]:
    """Return the parts of the recording `path` that are there, by number, in order."""
    found = {}
    for file in path.parent.glob(f"{escape(path.stem)}-*{escape(path.suffix)}"):
        named = parse_part_name(file)
        if named is not None and named[0] == path and _may_be(file, named[1]):
            found[named[1]] = file
    return dict(sorted(found.items()))


def require_complete(parts: dict[int, Path], path: Path) -> list[Path]:
    """Return the parts in order; DataError if one before the last is missing."""
    for expected, (number, file) in enumerate(parts.items(), 1):
        if number != expected:
            behind = f" behind {parts[expected - 1].name}" if expected > 1 else ""
            raise DataError(
                f"{path}: a part is missing: expected {part_path(path, expected).name}{behind}, "
                f"got {file.name}",
                hint="put it back; each part can be read by itself, under its own name",
            )
    return list(parts.values())


def find_files(path: Path) -> list[Path]:
    """Return the files of the recording that a path names, in order.

    Parameters
    ----------
    path
        A file; the first part, or the name without a number, for all parts; any other part for
        itself alone; a folder or a pattern that holds one recording.

    Raises
    ------
    DataError
        If there is none, there are several, or a part is missing.
    """
    if path.is_dir():
        return _only(path, (file for file in path.iterdir() if file.suffix in _SUFFIXES))
    if path.is_file():
        named = parse_part_name(path)
        if named is None or named[1] != 1 or not _may_be(path, 1):
            return [path]
        return require_complete(find_parts(named[0]), named[0])
    if path.exists():  # a pipe can be read only once
        return [path]
    if has_magic(str(path)):
        return _only(path, map(Path, glob(str(path))))
    parts = find_parts(path)
    if not parts:
        raise DataError(f"{path}: cannot open: no such file, nor one in parts")
    return require_complete(parts, path)


def wait_for_writer(path: Path) -> dict[int, Path]:
    """Return the parts of a recording once nobody writes to the last; OSError if in vain."""
    while parts := find_parts(path):
        await_writer(parts[max(parts)])
        if find_parts(path) == parts:  # else the writer went on to another part meanwhile
            break
    return parts


def remove_parts(path: Path) -> None:
    """Remove the parts of an earlier recording of the same name, that nobody writes any more."""
    for number, file in reversed(wait_for_writer(path).items()):
        with suppress(DataError):  # what cannot be read need not be ours
            if (part := _read_part(file)) is not None and part.number == number:
                file.unlink()


def _only(path: Path, files: Iterable[Path]) -> list[Path]:
    """Return the files of the one recording among `files`."""
    found: dict[Path, dict[int, Path]] = {}
    for file in sorted(files):
        part, named = _read_part(file), parse_part_name(file)
        if part is not None and named is not None and part.number == named[1]:
            found.setdefault(named[0], {})[part.number] = file
        else:
            found[file] = {1: file}
    if len(found) != 1:
        names = ", ".join(recording.name for recording in found) or "none"
        raise DataError(
            f"{path}: expected the files of one recording, got {names}",
            hint="name a file, or the first part" if found else None,
        )
    ((recording, parts),) = found.items()
    return require_complete(dict(sorted(parts.items())), recording)


def parse_part_name(file: Path) -> tuple[Path, int] | None:
    """Return recording and number by a file's name; None where it is not that of a part."""
    match = _NUMBERED.fullmatch(file.stem)
    if match is None or part_path(Path(match["stem"]), int(match["number"])).name != file.stem:
        return None
    return file.with_name(match["stem"] + file.suffix), int(match["number"])


def _may_be(file: Path, number: int) -> bool:
    """Whether a file may be part `number`: what cannot be read is not overlooked."""
    try:
        part = _read_part(file)
    except DataError:
        return True
    return part is not None and part.number == number


def _read_part(file: Path) -> FilePart | None:
    try:
        with pa.OSFile(str(file)) as opened, pa.ipc.open_stream(opened) as stream:
            return part_of(stream.schema.metadata)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file}: not a recording: {error}") from error
