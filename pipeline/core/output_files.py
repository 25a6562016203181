"""One rule for all output files: nothing is replaced unasked, or that Sluice did not write.

An output is a new regular file, or a character device such as ``/dev/null``. An existing file is
replaced only if the user says so and its content shows that Sluice wrote it; links, folders and
FIFOs are refused. A replaced file is never truncated: it is kept under another name until the new
one is in use, and its other hard links keep its content.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

from .errors import ConfigError, RunError

#: Whether a file has the content of a kind of output.
IsOurs = Callable[[Path], bool]

_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
)
#: Errors of a file system without hard links, such as a network share or a memory card.
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def require_replaceable(path: Path, what: str, is_ours: IsOurs, *, force: bool) -> None:
    """Raise ConfigError unless a file can be created at a path, or the one there may be replaced.

    Parameters
    ----------
    path
        Path of the output.
    what
        Description of the output, such as ``a recording``.
    is_ours
        Whether the existing file is such an output; not called for an empty file.
    force
        Whether the user allows that an earlier output is replaced.

    Raises
    ------
    ConfigError
        If it exists and may not be replaced, or cannot be written.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        _require_writable(path)
        return
    except OSError as error:
        raise ConfigError(f"{path}: cannot write there: {error.strerror}") from error
    if stat.S_ISCHR(status.st_mode):
        return
    for is_kind, name in _KINDS:
        if is_kind(status.st_mode):
            to = f" to {os.readlink(path)}" if is_kind is stat.S_ISLNK else ""
            raise ConfigError(f"{path}: expected a file to write, got {name}{to}")
    if not force:
        raise ConfigError(
            f"{path}: exists already, and nothing is replaced unasked",
            hint="choose another name, or add --force if it is an earlier output to replace",
        )
    if status.st_size and not is_ours(path):
        raise ConfigError(
            f"{path}: expected {what} to replace, got a file that is none",
            hint="--force replaces only what Sluice wrote: move the file away, or choose another "
            "name",
        )
    _require_writable(path)


def _require_writable(path: Path) -> None:
    """Raise ConfigError if a file cannot be created at a path; creates no folders."""
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise ConfigError(f"{path}: cannot write there: {folder} is not a folder")
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(f"{path}: cannot write there: folder {folder}: {why}") from error


class CreatedFile(NamedTuple):
    """An output file that was created, and where the file that it replaces is meanwhile.

    Attributes
    ----------
    path
        Path of the file.
    before
        Path of the replaced file until `keep` or `undo`; None without one.
    """

    path: Path
    before: Path | None = None

    def keep(self) -> None:
        """Remove the replaced file."""
        if self.before is not None:
            self.before.unlink(missing_ok=True)

    def undo(self) -> None:
        """Remove the new file, and put the replaced one back."""
        self.path.unlink(missing_ok=True)
        if self.before is not None:
            self.before.rename(self.path)


def create_file(
    path: Path, what: str, is_ours: IsOurs, *, force: bool = False
) -> CreatedFile | None:
    """Create an empty file for an output, in place of an earlier one if `force`.

    Parameters are those of `require_replaceable`. None for a character device, which stays.

    Raises
    ------
    FileExistsError
        If another process has created the file meanwhile.
    ConfigError
        As `require_replaceable`, or if the file cannot be created.
    """
    require_replaceable(path, what, is_ours, force=force)
    if path.is_char_device():
        return None
    created = CreatedFile(path, set_aside(path) if force else None)
    try:
        create_new_file(path)
    except FileExistsError:
        created.keep()
        raise
    except ConfigError:
        created.undo()
        raise
    return created


def set_aside(path: Path) -> Path | None:
    """Rename a file, if it exists, to a hidden name beside it; return the new path."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot replace: {error.strerror}") from error
    return aside


def create_new_file(path: Path) -> None:
    """Create an empty file, and missing folders.

    Raises
    ------
    FileExistsError
        If the file exists.
    ConfigError
        If it cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, _NEW_FILE, 0o666))
    except FileExistsError:
        raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot write there: {error.strerror}") from error


def write_whole(path: Path, content: bytes, *, replace: bool) -> None:
    """Write a file that other processes see either complete or not at all.

    Parameters
    ----------
    path
        Path of the file; missing folders are created.
    content
        Content of the file.
    replace
        Whether to replace an existing file.

    Raises
    ------
    RunError
        If the file exists by now and may not be replaced: the content is then in another file
        beside it, which the message names.
    OSError
        If it cannot be written.
    """
    if path.is_char_device():
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _write_aside(path, content)
    try:
        if replace:
            aside.replace(path)
        else:
            _rename_to_new(aside, path)
    except FileExistsError as error:
        raise RunError(
            f"{path}: another process has created it meanwhile; what was to be written is in "
            f"{aside.name} beside it"
        ) from error


def _rename_to_new(aside: Path, path: Path) -> None:
    """Rename a file; FileExistsError if another one has the name."""
    try:
        os.link(aside, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        aside.rename(path)
    else:
        aside.unlink()


def _write_aside(path: Path, content: bytes) -> Path:
    """Write a new file beside `path`, flushed to the disk; return its path."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    with suppress(FileNotFoundError):
        aside.unlink()  # of an earlier process with this process id
    try:
        with open(os.open(aside, _NEW_FILE, 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    return aside
