"""Want of room: a sink that cannot write waits and tries again, for a while."""

from __future__ import annotations

import errno

from sluice.pipeline.core.errors import RunError

#: Failures that pass when somebody makes room.
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: Between two tries.
RETRY_S = 0.25
#: Who holds the run meanwhile.
HOLDER = "sink"
_HINT = "make room and replay the events that the report counts as failed"


class StorageRetry:
    """Whether the sink has room, since when not, and when it shall try again.

    Parameters
    ----------
    timeout_s
        Give up after so many seconds without room.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._since_s = 0.0
        self._again_s = 0.0
        self.full = False

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until the next try; 0 while there is room."""
        return max(0.0, self._again_s - now_s) if self.full else 0.0

    def on_error(self, error: OSError, now_s: float) -> bool:
        """Note that a write failed; whether this is news.

        Raises
        ------
        RunError
            If more room would not help, or it has been waited for long enough.
        """
        if error.errno not in DISK_FULL_ERRNOS:
            raise RunError(f"cannot write: {error}", _HINT) from error
        news = not self.full
        if news:
            self.full, self._since_s = True, now_s
        if now_s - self._since_s >= self._timeout_s:
            raise RunError(
                f"cannot write, no room for {self._timeout_s:g} s: {error}", _HINT
            ) from error
        self._again_s = now_s + RETRY_S
        return news

    def on_success(self) -> bool:
        """Note that a write went well; whether this is news."""
        news, self.full = self.full, False
        return news
