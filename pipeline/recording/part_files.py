"""Files of a rotated recording: ``run.arrows``, ``run-0002.arrows`` and so on.

A file belongs to a rotated recording if the metadata of its schema says so, not by its name alone.
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
from .metadata import BOR, FilePart, part_of
from .record_file import has_cut_head

_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{4,})", re.DOTALL)
_SUFFIXES = (".arrows", ".arrow")


def part_path(path: Path, number: int) -> Path:
    """Return the path of one file of a rotated recording; the first has the recording's name.

    Examples
    --------
    >>> part_path(Path("run-000007.arrows"), 1).name
    'run-000007.arrows'
    >>> part_path(Path("run-000007.arrows"), 3).name
    'run-000007-0003.arrows'
    """
    return path if number == 1 else path.with_name(f"{path.stem}-{number:04d}{path.suffix}")


def find_parts(path: Path) -> dict[int, Path]:
    """Return the existing files of the recording `path`, by number, in order."""
    found = {1: path} if path.is_file() else {}
    for file in path.parent.glob(f"{escape(path.stem)}-*{escape(path.suffix)}"):
        named = parse_part_name(file)
        if named is not None and named[0] == path and _may_be_part(file, named[1]):
            found[named[1]] = file
    return dict(sorted(found.items()))


def require_complete(parts: dict[int, Path], path: Path) -> list[Path]:
    """Return the files in order, without a last one that ends within its schema.

    Raises
    ------
    DataError
        If a file before the last is missing.
    """
    for expected, (number, file) in enumerate(parts.items(), 1):
        if number != expected:
            after = f" after {parts[expected - 1].name}" if expected > 1 else ""
            raise DataError(
                f"{path}: a file is missing: expected {part_path(path, expected).name}{after}, "
                f"got {file.name}",
                hint="put it back; each file can be read alone, under its own name",
            )
    files = list(parts.values())
    return files[:-1] if len(files) > 1 and has_cut_head(files[-1], files[-2]) else files


def find_files(path: Path) -> list[Path]:
    """Return the files of the recording that a path names, in order.

    Parameters
    ----------
    path
        Path of a file. The first file of a rotated recording stands for all its files, any other
        for that file alone. A folder or pattern stands for the one recording that it contains.

    Raises
    ------
    DataError
        If there is no recording, several, or a file is missing.
    """
    if path.is_dir():
        return _only(path, (file for file in path.iterdir() if file.suffix in _SUFFIXES))
    if path.is_file():
        return require_complete(find_parts(path), path) if _may_be_part(path, 1) else [path]
    if path.exists():  # a pipe can be read only once
        return [path]
    if has_magic(str(path)):
        found = map(Path, glob(str(path), recursive=True))
        return _only(path, (file for file in found if file.is_file()))
    parts = find_parts(path)
    if not parts:
        raise DataError(f"{path}: cannot open: no such file")
    return require_complete(parts, path)


def wait_for_writer(path: Path) -> dict[int, Path]:
    """Return the files of a recording once no process writes it; OSError if one does."""
    while parts := find_parts(path):
        await_writer(parts[max(parts)])
        if find_parts(path) == parts:  # else the writer began another file meanwhile
            break
    return parts


def remove_parts(path: Path) -> None:
    """Remove all files but the first of an earlier recording that no process writes."""
    for number, file in reversed(wait_for_writer(path).items()):
        with suppress(DataError):  # an unreadable file may not be a recording
            if number > 1 and (part := _read_part(file)) is not None and part.number == number:
                file.unlink()


def is_recording(file: Path) -> bool:
    """Whether a file begins as a recording: an Arrow stream with a begin-of-run record."""
    try:
        with pa.OSFile(str(file)) as opened, pa.ipc.open_stream(opened) as stream:
            return BOR in (stream.schema.metadata or {})
    except (OSError, pa.ArrowException):
        return False


def _only(path: Path, files: Iterable[Path]) -> list[Path]:
    """Return the files of the one recording among `files`."""
    found: dict[Path, dict[int, Path]] = {}
    for file in sorted(files):
        recording, number = parse_part_name(file) or (file, 1)
        if number > 1 and not _may_be_part(file, number):
            recording, number = file, 1
        found.setdefault(recording, {})[number] = file
    if len(found) != 1:
        names = ", ".join(sorted(recording.name for recording in found)) or "none"
        raise DataError(
            f"{path}: expected the files of one recording, got {names}",
            hint="name one file, or the first of a rotated recording" if found else None,
        )
    ((recording, parts),) = found.items()
    return require_complete(dict(sorted(parts.items())), recording)


def parse_part_name(file: Path) -> tuple[Path, int] | None:
    """Return recording and number from the name of a file after the first; None for others."""
    match = _NUMBERED.fullmatch(file.stem)
    if match is None or part_path(Path(match["stem"]), int(match["number"])).name != file.stem:
        return None
    return file.with_name(match["stem"] + file.suffix), int(match["number"])


def _may_be_part(file: Path, number: int) -> bool:
    """Whether a file may have that number in its recording; True for an unreadable file."""
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
