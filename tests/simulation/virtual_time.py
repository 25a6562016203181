"""Virtual time: events that happen in the order of their times, and a clock that they advance."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

#: CLOCK_TAI minus CLOCK_MONOTONIC of the simulated host, ns.
_TAI_OFFSET_NS = 10**18


class VirtualTime:
    """Takes the place of the module `time` in the code that is simulated.

    Attributes
    ----------
    now_s
        Virtual time, s.
    """

    CLOCK_TAI = 11

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._number = itertools.count()

    def monotonic(self) -> float:
        """Return the virtual time, s."""
        return self.now_s

    def monotonic_ns(self) -> int:
        """Return the virtual time, ns."""
        return round(self.now_s * 1e9)

    def clock_gettime_ns(self, _: int) -> int:
        """Return the virtual time as CLOCK_TAI, ns."""
        return self.monotonic_ns() + _TAI_OFFSET_NS

    def sleep(self, seconds: float) -> None:
        """Let what happens meanwhile happen."""
        self.advance(lambda: False, seconds)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the simulation has no time.{name}")

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Call `action` in `seconds` seconds."""
        self.at(self.now_s + seconds, action)

    def at(self, time_s: float, action: Callable[[], object]) -> None:
        """Call `action` at `time_s`, s."""
        heapq.heappush(self._events, (max(time_s, self.now_s), next(self._number), action))

    def advance(self, done: Callable[[], bool], timeout_s: float) -> None:
        """Let events happen until `done` returns true, at most for `timeout_s` seconds."""
        end_s = self.now_s + timeout_s
        while not done():
            if not self._events or self._events[0][0] > end_s:
                self.now_s = end_s
                return
            self.now_s, _, action = heapq.heappop(self._events)
            action()
