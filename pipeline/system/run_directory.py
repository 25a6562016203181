"""Run directories: a folder for the sockets and the shared memory of each run, in a private folder.

Only this user may write into the folder that holds them. A run that is killed cannot remove its
directory. Each directory has a lock that ends with its process, whatever container that runs in;
the next run removes the directories whose lock is free.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sluice.pipeline.core.errors import ConfigError

#: Environment variable that names the folder of the run directories.
VARIABLE = "SLUICE_RUNTIME"
#: File system in memory that every user may write to.
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
_PREFIX = "run-"
_LOCK = "lock"
#: Bytes in the path of a Unix socket (`sun_path`), the closing zero included.
_SOCKET_PATH_BYTES = 108
#: Space for the name of a socket in a run directory, bytes.
_SOCKET_NAME_BYTES = 16
#: No following of links, no waiting for the other end of a FIFO.
_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def run_directory() -> Iterator[Path]:
    """Yield a new folder for one run; it is removed afterwards.

    Raises
    ------
    ConfigError
        If there is no private folder for it, or its path is too long for a socket.
    """
    parent = runtime_folder()
    _remove_stale(parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    except OSError as error:
        raise _refused(parent, f"cannot make a folder there: {error.strerror}") from error
    try:
        length = len(os.fsencode(folder)) + len("/") + _SOCKET_NAME_BYTES
        if length >= _SOCKET_PATH_BYTES:
            excess = length + 1 - _SOCKET_PATH_BYTES
            raise _refused(parent, f"the path is {excess} bytes too long for Unix sockets in it")
        # Locked under another name first: a lock that can be seen is held.
        with (folder / f".{_LOCK}").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / f".{_LOCK}").rename(folder / _LOCK)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def runtime_path() -> Path:
    """Return the path of the folder of the run directories of this user; nothing is made.

    ``SLUICE_RUNTIME``, else ``sluice`` in ``XDG_RUNTIME_DIR`` where that is a private folder of
    this user, else ``sluice-UID`` in ``/dev/shm``, or in the folder for temporary files where
    there is no ``/dev/shm``.
    """
    chosen = os.environ.get(VARIABLE, "")
    if chosen:
        return Path(chosen).absolute()
    if (session := _session_folder()) is not None:
        return session / "sluice"
    in_memory = os.access(_SHARED_MEMORY, os.W_OK)
    parent = _SHARED_MEMORY if in_memory else Path(tempfile.gettempdir())
    return parent / f"sluice-{os.geteuid()}"


def runtime_folder() -> Path:
    """Return the folder of the run directories of this user; make it if it does not exist.

    Raises
    ------
    ConfigError
        If it is not a folder, belongs to another user, or is open to others.
    """
    folder = runtime_path()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        why = _not_private(folder)
    except OSError as error:
        why = f"cannot make this folder: {error.strerror}"
    if why:
        raise _refused(folder, why)
    return folder


def _session_folder() -> Path | None:
    """Return ``XDG_RUNTIME_DIR``, None if it is not set or not a private folder of this user.

    After ``sudo`` or ``su`` it may be that of another user.
    """
    value = os.environ.get("XDG_RUNTIME_DIR", "")
    if not value:
        return None
    folder = Path(value)
    try:
        usable = not _not_private(folder) and os.access(folder, os.W_OK)
    except OSError:
        usable = False
    return folder if usable else None


def _not_private(folder: Path) -> str:
    """Return why a folder is not private to this user; empty if it is."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return "expected a folder, got a link or a file"
    if status.st_uid != os.geteuid():
        return f"expected a folder of user {os.geteuid()}, got one of user {status.st_uid}"
    mode = stat.S_IMODE(status.st_mode)
    return f"expected mode 0700, got {mode:04o}: others may use it" if mode & 0o077 else ""


def _refused(folder: Path, why: str) -> ConfigError:
    hint = f"name a short path to a folder of your own, mode 0700, in {VARIABLE}"
    return ConfigError(f"run directory: {folder}: {why}", hint)


def _remove_stale(parent: Path) -> None:
    """Remove the run directories whose run has ended."""
    for lock in parent.glob(f"{_PREFIX}*/{_LOCK}"):
        try:
            descriptor = os.open(lock, _OPEN_FLAGS)
        except OSError:  # removed meanwhile, or a link
            continue
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
        except OSError:  # in use
            continue
        finally:
            os.close(descriptor)
