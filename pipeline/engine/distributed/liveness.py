"""A watch on batches that do not come back."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sluice.pipeline.core.errors import RunError


class StallWatchdog:
    """Ends a run in which nothing moves though it could.

    Parameters
    ----------
    timeout_s
        How long no batch may come back.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.progress()

    def progress(self) -> None:
        """Note that a batch came back, or that none could."""
        self._moved_at_s = time.monotonic()

    def check(self, workers: Sequence[str]) -> None:
        """Raise RunError, naming the workers that have batches, if it has been too long."""
        if time.monotonic() - self._moved_at_s > self._timeout_s:
            raise RunError(
                f"no batch came back for {self._timeout_s:g} s; waiting for {', '.join(workers)}",
                hint="raise workers.stall_timeout if a batch may take that long",
            )


#: A look that comes later than this after the one before means that we slept ourselves.
_OWN_SLEEP_S = 1.0


class Liveness:
    """When each process was heard last.

    Workers and the sink speak once a second, and after each batch; not while they work on one. The
    bound must therefore be longer than the longest batch, or the longest write.

    Parameters
    ----------
    most_s
        A longer silence counts as death.

    Examples
    --------
    >>> liveness = Liveness(30.0)
    >>> liveness.seen("compute-0", 0.0)
    >>> for second in range(32):
    ...     silent = liveness.timed_out(float(second))
    >>> silent
    ['compute-0']
    """

    def __init__(self, most_s: float) -> None:
        self.most_s = most_s
        self._heard_s: dict[str, float] = {}
        self._looked_s = 0.0

    def seen(self, name: str, now_s: float) -> None:
        """Note a sign of life."""
        self._heard_s[name] = now_s

    def forget(self, name: str) -> None:
        """Expect nothing from a worker any more."""
        self._heard_s.pop(name, None)

    def timed_out(self, now_s: float) -> list[str]:
        """Return who has been silent for too long; our own sleep is nobody's silence."""
        slept = now_s - self._looked_s
        self._looked_s = now_s
        if slept > _OWN_SLEEP_S:
            self._heard_s = {name: now_s for name in self._heard_s}
        return [name for name, at_s in self._heard_s.items() if now_s - at_s > self.most_s]
