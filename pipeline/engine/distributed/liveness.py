"""Timeouts of the distributed engine: stalled runs, and processes that send no messages."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sluice.pipeline.core.errors import RunError


class StallWatchdog:
    """Ends a run in which no batch is committed although workers are ready.

    After half of the time it assumes that a broken connection has lost the batches in flight.

    Parameters
    ----------
    timeout_s
        Longest time without a commit, s.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.progress()

    def progress(self) -> None:
        """Record that a batch was committed, or that none could be."""
        self._progress_s, self._assumed = time.monotonic(), False

    def assumes_loss(self) -> bool:
        """Return True once, when no batch was committed for half of the timeout."""
        now_s = time.monotonic()
        first = not self._assumed and now_s - self._progress_s > self._timeout_s / 2
        self._assumed |= first
        return first

    @property
    def without_commit_s(self) -> float:
        """Time since a batch was committed, or since none could be, s."""
        return time.monotonic() - self._progress_s

    def check(self, workers: Sequence[str]) -> None:
        """Raise RunError, naming the workers that have batches, if the timeout has passed."""
        if self.without_commit_s > self._timeout_s:
            raise RunError(
                f"no batch came back for {self._timeout_s:g} s; waiting for {', '.join(workers)}",
                hint="raise workers.stall_timeout if a batch may take that long",
            )


#: Interval between two checks above which this process must have been suspended itself, s.
_SUSPENDED_S = 1.0


class Liveness:
    """Time of the last message of each process.

    Workers and the sink send a heartbeat once a second and a message after each batch, but none
    while they process one. The timeout must therefore exceed the longest batch and the longest
    write.

    Parameters
    ----------
    timeout_s
        Time without a message after which a process counts as hanging, s.

    Examples
    --------
    >>> liveness = Liveness(30.0)
    >>> liveness.seen("compute-0", 0.0)
    >>> for second in range(32):
    ...     silent = liveness.timed_out(float(second))
    >>> silent
    ['compute-0']
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._seen_s: dict[str, float] = {}
        self._checked_s = 0.0

    def seen(self, name: str, now_s: float) -> None:
        """Record a message of a process."""
        self._seen_s[name] = now_s

    def forget(self, name: str) -> None:
        """Stop watching a process."""
        self._seen_s.pop(name, None)

    def timed_out(self, now_s: float) -> list[str]:
        """Return the names of processes that have timed out.

        Time for which this process was suspended itself does not count.
        """
        elapsed_s = now_s - self._checked_s
        self._checked_s = now_s
        if elapsed_s > _SUSPENDED_S:
            self._seen_s = {name: now_s for name in self._seen_s}
        return [name for name, at_s in self._seen_s.items() if now_s - at_s > self.timeout_s]
