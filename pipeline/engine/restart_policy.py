"""Number and delay of the restarts of processes that exited."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from sluice.pipeline.core.errors import RunError

#: Delay before the second restart of a process within the window, s; doubles with each further
#: one, up to a maximum.
_FIRST_DELAY_S = 0.1
_MAX_DELAY_S = 5.0
#: Exits of workers in a run that do not count, because a suspect batch is the likely cause.
_MAX_UNCOUNTED = 100


class ProcessExit(NamedTuple):
    """Exit of a process: time (s of CLOCK_MONOTONIC), name, and description."""

    at_s: float
    name: str
    description: str


class RestartPolicy:
    """Counts exits; decides on the delay before a restart, and when to give up.

    Parameters
    ----------
    max_restarts
        Restarts allowed within the window, of all processes together.
    window_s
        Length of the window, s; earlier exits do not count.

    Examples
    --------
    >>> restarts = RestartPolicy(3, 600.0)
    >>> [restarts.delay_s("compute-0", "killed", float(t)) for t in range(3)]
    [0.0, 0.1, 0.2]
    """

    def __init__(self, max_restarts: int, window_s: float) -> None:
        self._max_restarts = max_restarts
        self._window_s = window_s
        self._exits: deque[ProcessExit] = deque()
        self._uncounted = 0

    def delay_s(self, name: str, description: str, now_s: float, *, suspect: bool = False) -> float:
        """Record the exit of process `name`; return the delay before its restart, s.

        The exit of a worker whose batch is `suspect` does not count, for a number of times: each
        brings the search for the event that is the cause to a smaller part of the batch.

        Raises
        ------
        RunError
            If there were too many exits; it names the first of them, as the likely cause.
        """
        if suspect and self._uncounted < _MAX_UNCOUNTED:
            self._uncounted += 1
            return _FIRST_DELAY_S
        while self._exits and now_s - self._exits[0].at_s > self._window_s:
            self._exits.popleft()
        self._exits.append(ProcessExit(now_s, name, description))
        if len(self._exits) > self._max_restarts:
            first = self._exits[0].description
            before = (
                f"; the first of {len(self._exits)} exits: {first}" if self._max_restarts else ""
            )
            raise RunError(
                f"{description}; no restarts left of {self._max_restarts} "
                f"in {self._window_s:g} s{before}"
            )
        repeats = sum(exit_.name == name for exit_ in self._exits) - 2
        if repeats < 0:
            return 0.0
        return float(min(_MAX_DELAY_S, _FIRST_DELAY_S * 2 ** min(repeats, 16)))
