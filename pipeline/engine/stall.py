"""A watch on batches that do not come back."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..errors import RunError


class Stall:
    """Ends a run in which nothing moves though it could.

    Parameters
    ----------
    timeout_s
        How long no batch may come back.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.moved()

    def moved(self) -> None:
        """Note that a batch came back, or that none could."""
        self._moved_at_s = time.monotonic()

    def check(self, workers: Sequence[str]) -> None:
        """Raise RunError, naming the workers that have batches, if it has been too long."""
        if time.monotonic() - self._moved_at_s > self._timeout_s:
            raise RunError(
                f"no batch came back for {self._timeout_s:g} s; waiting for {', '.join(workers)}",
                hint="raise workers.stall_timeout if a batch may take that long",
            )
