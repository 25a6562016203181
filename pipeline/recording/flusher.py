"""Flushing to the device, now and then, beside the writing."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

from sluice.pipeline.core.errors import RunError


class Flusher:
    """Flushes a file to the device from a thread: no write waits for it.

    Parameters
    ----------
    interval_s
        Seconds from one flush to the next.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._descriptor: int | None = None
        self._source: int | None = None
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._dirty = False
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._loop, name="sluice-flusher", daemon=True)
        self._thread.start()

    def mark_dirty(self, descriptor: int, path: Path) -> None:
        """Note that the file of a descriptor has grown.

        Raises
        ------
        RunError
            If a flush has failed: what was acknowledged may not be on the device.
        """
        if self._error is not None:
            raise RunError(f"{path}: cannot flush to the device: {self._error}") from self._error
        if descriptor != self._source:
            self._turn_to(descriptor)
        self._dirty = True

    def close(self) -> None:
        """End the thread."""
        self._done.set()
        self._thread.join()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _turn_to(self, descriptor: int) -> None:
        """Flush another file from now on; whoever closed the one before has flushed it."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._descriptor, self._source = os.dup(descriptor), descriptor

    def _loop(self) -> None:
        while not self._done.wait(self._interval_s):
            with self._lock:
                if self._dirty and self._descriptor is not None and self._error is None:
                    self._dirty = False
                    self._flush(self._descriptor)

    def _flush(self, descriptor: int) -> None:
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # what is no plain file cannot be flushed
                self._error = error


def flush_folder(path: Path) -> None:
    """Flush the folder of a new file, without which the file's name may be lost."""
    with contextlib.suppress(OSError):  # not every file system lets one
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
