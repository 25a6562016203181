"""Lock of the one writer of a file; the kernel releases it when the process ends."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

#: Longest time to wait for the lock: the sink of a killed engine ends within a second or two.
_TIMEOUT_S = 10.0
_RETRY_S = 0.05


def lock(descriptor: int, path: Path) -> None:
    """Take the writer's lock on an open file; OSError if another process keeps it."""
    deadline = time.monotonic() + _TIMEOUT_S
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
    """Wait until no process writes a file; OSError if it does not exist, or after a timeout."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        lock(descriptor, path)
    finally:
        os.close(descriptor)
