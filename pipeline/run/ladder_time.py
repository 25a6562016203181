"""Time and events of a run by rung of the ladder."""

from __future__ import annotations

import time


class LadderTime:
    """Counts events and nanoseconds on each rung of the ladder.

    Time on rung 0, the full models, is not measured: it is the run's time without the other rungs.

    Parameters
    ----------
    rungs
        Number of rungs, the full models included.

    Attributes
    ----------
    rung
        Current rung; 0 for the full models.
    events
        Number of committed events by rung.
    """

    def __init__(self, rungs: int) -> None:
        self.rung = 0
        self.events = [0] * rungs
        self._spent_ns = [0] * rungs
        self._since_ns = 0

    def enter(self, rung: int, now_ns: int) -> None:
        """Go to another rung.

        Parameters
        ----------
        rung
            New rung.
        now_ns
            Time of the change, CLOCK_MONOTONIC, ns.
        """
        self._spent_ns[self.rung] += now_ns - self._since_ns if self.rung else 0
        self.rung, self._since_ns = rung, now_ns

    def seconds(self, wall_ns: int) -> list[float]:
        """Return the seconds spent on each rung.

        Parameters
        ----------
        wall_ns
            Duration of the run, ns.
        """
        spent_ns = list(self._spent_ns)
        spent_ns[self.rung] += time.monotonic_ns() - self._since_ns if self.rung else 0
        spent_ns[0] = max(0, wall_ns - sum(spent_ns[1:]))
        return [ns / 1e9 for ns in spent_ns]
