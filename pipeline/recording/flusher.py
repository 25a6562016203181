"""Flusher: flushes a file to the disk at intervals, in a thread."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

from sluice.pipeline.core.errors import RunError


class Flusher:
    """Flushes a file to the disk in a thread, so that no write waits for it.

    Parameters
    ----------
    interval_s
        Time between two flushes, s.
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
        """Flush the file of a descriptor at the next interval.

        Parameters
        ----------
        descriptor
            Descriptor of the open file; another one than before after a rotation.
        path
            Path of the file, for the error message.

        Raises
        ------
        RunError
            If a flush has failed: acknowledged events may not be on the disk.
        """
        if self._error is not None:
            raise RunError(f"{path}: cannot flush to the disk: {self._error}") from self._error
        if descriptor != self._source:
            self._switch_to(descriptor)
        self._dirty = True

    def close(self) -> None:
        """End the thread."""
        self._done.set()
        self._thread.join()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _switch_to(self, descriptor: int) -> None:
        """Flush another file from now on; the writer flushed the one before when it closed it."""
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
            if error.errno != errno.EINVAL:  # EINVAL: not a regular file, which cannot be flushed
                self._error = error


def flush_folder(path: Path) -> None:
    """Flush the folder of a new file, so that a power failure does not lose the file's name."""
    with contextlib.suppress(OSError):  # not every file system supports it
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
