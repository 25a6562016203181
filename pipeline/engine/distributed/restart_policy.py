"""How often and how soon a dead process is started again."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from sluice.pipeline.core.errors import RunError

#: Wait before the second restart of a process within the window; doubles with each further one.
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0


class ProcessExit(NamedTuple):
    """When, who and how, in words."""

    at_s: float
    name: str
    how: str


class RestartPolicy:
    """Counts deaths; says how long to wait before a restart, and when it is enough.

    Parameters
    ----------
    most
        Restarts allowed within the window, of all processes together.
    window_s
        Deaths longer ago than this many seconds are forgiven.

    Examples
    --------
    >>> restarts = RestartPolicy(3, 600.0)
    >>> [restarts.delay_s("compute-0", "killed", float(t)) for t in range(3)]
    [0.0, 0.1, 0.2]
    """

    def __init__(self, most: int, window_s: float) -> None:
        self._most = most
        self._window_s = window_s
        self._deaths: deque[ProcessExit] = deque()

    def delay_s(self, name: str, how: str, now_s: float) -> float:
        """Return the seconds to wait before `name`, which has just died, is started again.

        Raises
        ------
        RunError
            If there have been too many deaths; the first of them is named, as the likely cause.
        """
        while self._deaths and now_s - self._deaths[0].at_s > self._window_s:
            self._deaths.popleft()
        self._deaths.append(ProcessExit(now_s, name, how))
        if len(self._deaths) > self._most:
            first = self._deaths[0].how
            before = f"; the first of {len(self._deaths)} deaths: {first}" if self._most else ""
            raise RunError(
                f"{how}; no restarts left of {self._most} in {self._window_s:g} s{before}"
            )
        again = sum(death.name == name for death in self._deaths) - 2
        if again < 0:
            return 0.0
        return float(min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** min(again, 16)))
