"""Signs of life: each process gives one a second; who has been silent for too long hangs."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..transport import Socket
from ..wire import Header, Kind

#: How often a process says that it is there.
BEAT_S = 1.0
#: A look that comes later than this after the one before means that we slept ourselves.
_OWN_SLEEP_S = 1.0


class Beat:
    """The signs of life of one process, given from its main loop.

    Parameters
    ----------
    hub
        The way to ingest.
    payload
        What goes with each.
    """

    def __init__(self, hub: Socket, payload: Callable[[], list[bytes]] = list) -> None:
        self._hub, self._payload = hub, payload
        self._last_s = 0.0

    def tick(self) -> None:
        """Give a sign of life if the last was a second ago."""
        now_s = time.monotonic()
        if now_s - self._last_s >= BEAT_S:
            self._last_s = now_s
            self.give()

    def give(self) -> None:
        """Give a sign of life now."""
        self._hub.send(Header(Kind.HEARTBEAT), *self._payload())


class Pulse:
    """When each process was heard last.

    Workers and the sink speak once a second, and after each batch; not while they work on one. The
    bound must therefore be longer than the longest batch, or the longest write.

    Parameters
    ----------
    most_s
        A longer silence counts as death.

    Examples
    --------
    >>> pulse = Pulse(30.0)
    >>> pulse.hear("compute-0", 0.0)
    >>> for second in range(32):
    ...     silent = pulse.silent(float(second))
    >>> silent
    ['compute-0']
    """

    def __init__(self, most_s: float) -> None:
        self.most_s = most_s
        self._heard_s: dict[str, float] = {}
        self._looked_s = 0.0

    def hear(self, name: str, now_s: float) -> None:
        """Note a sign of life."""
        self._heard_s[name] = now_s

    def forget(self, name: str) -> None:
        """Expect nothing from a worker any more."""
        self._heard_s.pop(name, None)

    def silent(self, now_s: float) -> list[str]:
        """Return who has been silent for too long; our own sleep is nobody's silence."""
        slept = now_s - self._looked_s
        self._looked_s = now_s
        if slept > _OWN_SLEEP_S:
            self._heard_s = {name: now_s for name in self._heard_s}
        return [name for name, at_s in self._heard_s.items() if now_s - at_s > self.most_s]
