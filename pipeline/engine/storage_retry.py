"""Waiting for disk space: a sink that cannot write retries until a timeout."""

from __future__ import annotations

import errno

from sluice.pipeline.core.errors import RunError, limit_hint

#: Error numbers of writes that succeed once disk space is freed.
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: Interval between two tries, s.
RETRY_S = 0.25
#: Name of the hold that pauses the run meanwhile.
HOLDER = "sink"
_HINT = "free disk space and replay the events that the report counts as failed"


class StorageRetry:
    """State of a sink that may wait for disk space: since when, and when to retry.

    Parameters
    ----------
    timeout_s
        Time without disk space after which the run fails, s.

    Attributes
    ----------
    disk_full
        Whether the last write failed for lack of disk space.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._since_s = 0.0
        self._next_try_s = 0.0
        self.disk_full = False

    def wait_s(self, now_s: float) -> float:
        """Return the time until the next try, s; 0 unless the disk is full."""
        return max(0.0, self._next_try_s - now_s) if self.disk_full else 0.0

    def on_error(self, error: OSError, now_s: float) -> bool:
        """Record a failed write; return whether it is the first since the last success.

        Raises
        ------
        RunError
            If the error is another one than a full disk, or the timeout has passed.
        """
        if error.errno not in DISK_FULL_ERRNOS:
            raise RunError(f"cannot write: {error}", limit_hint(error) or _HINT) from error
        first = not self.disk_full
        if first:
            self.disk_full, self._since_s = True, now_s
        if now_s - self._since_s >= self._timeout_s:
            raise RunError(
                f"cannot write, disk full for {self._timeout_s:g} s: {error}", _HINT
            ) from error
        self._next_try_s = now_s + RETRY_S
        return first

    def on_success(self) -> bool:
        """Record a successful write; return whether the disk was full before."""
        recovered, self.disk_full = self.disk_full, False
        return recovered
