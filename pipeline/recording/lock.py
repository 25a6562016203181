"""One writer a recording: it holds a lock on the file, and whoever dies lets go of it."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

#: The sink of an engine that was killed sees it within a second or two, and ends.
_PATIENCE_S = 10.0
_RETRY_S = 0.05


def lock(descriptor: int, path: Path) -> None:
    """Take the writer's lock on an open file; OSError if whoever has it keeps it for long."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "another process writes to it", str(path)) from None
            time.sleep(_RETRY_S)
        else:
            return


def await_writer(path: Path) -> None:
    """Wait until nobody writes to a file; OSError if it is not there, or in vain."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        lock(descriptor, path)
    finally:
        os.close(descriptor)
