"""Flusher: flushes a file to the disk at intervals, in a thread."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from sluice.pipeline.core.errors import RunError

#: Errors of a file or file system that cannot be flushed at all, such as a pipe.
_NOT_FLUSHABLE = (errno.EINVAL, errno.EROFS, errno.ENOTSUP)


class Flusher:
    """Flushes a file to the disk in a thread, so that no write waits for it.

    Parameters
    ----------
    interval_s
        Time between two flushes, s.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._path = Path()
        self._descriptor: int | None = None
        self._source: int | None = None
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._dirty = False
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._loop, name="sluice-flusher", daemon=True)
        self._thread.start()

    def require_flushed(self) -> None:
        """Raise an error if a flush has failed; to be called before the next write.

        A flush is never tried again, not even for lack of disk space: the kernel tells of an error
        once and may drop what it could not write, so a second flush succeeds without the data.

        Raises
        ------
        RunError
            If a flush has failed: what was acknowledged since the one before may not be on the
            device.
        """
        if self._error is not None:
            raise flush_failed(self._path, self._error) from self._error

    def mark_dirty(self, descriptor: int, path: Path) -> None:
        """Flush the file of a descriptor at the next interval.

        Parameters
        ----------
        descriptor
            Descriptor of the open file; another one than before after a rotation.
        path
            Path of the file, for the error message.
        """
        if descriptor != self._source:
            self._switch_to(descriptor)
        self._path = path
        self._dirty = True

    def finish(self) -> None:
        """End the thread and flush a last time; errors as for `require_flushed`."""
        self._done.set()
        self._thread.join()
        if self._dirty and self._error is None:
            self._flush()
        self.require_flushed()
        self._release()

    def abandon(self) -> None:
        """End the thread without another flush."""
        self._done.set()
        self._thread.join()
        self._release()

    def _release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _switch_to(self, descriptor: int) -> None:
        """Flush another file from now on; the writer flushed the one before when it closed it."""
        with self._lock:
            self._release()
            self._descriptor, self._source = os.dup(descriptor), descriptor

    def _loop(self) -> None:
        while not self._done.wait(self._interval_s):
            with self._lock:
                if self._dirty and self._error is None:
                    self._flush()

    def _flush(self) -> None:
        if self._descriptor is None:
            return
        self._dirty = False
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            if error.errno not in _NOT_FLUSHABLE:
                self._error = error


def flush_failed(path: Path, error: OSError) -> RunError:
    """Return the error that ends a run after a failed flush of a file."""
    return RunError(
        f"{path}: cannot flush to the disk: {error}",
        hint="check the disk: the events written since the flush before may not be on it; "
        "the run can be resumed on another disk from a copy of the recording",
    )


def flush(descriptor: int) -> None:
    """Flush a file or folder to the disk; nothing if it cannot be flushed at all, such as a pipe.

    Raises
    ------
    OSError
        If the device has failed.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_FLUSHABLE:
            raise


def flush_folder(path: Path) -> None:
    """Flush the folder of a new file, so that a power failure does not lose the file's name.

    Raises
    ------
    OSError
        If the device has failed; nothing if the file system cannot flush folders.
    """
    try:
        descriptor = os.open(path.parent, os.O_RDONLY)
    except OSError:  # a folder that may be written to, but not read
        return
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)
