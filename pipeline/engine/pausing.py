"""What an engine does while its run is paused: read nothing, and keep the account."""

from __future__ import annotations

import time

from ..sources import Rests
from . import Plan


class Pause:
    """Tells an engine whether to read, and a paced source how long it rested.

    Parameters
    ----------
    plan
        Whose control says pause, and whose source is not read meanwhile.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._since_ns = 0

    def holds(self) -> bool:
        """Return whether nothing may be read now.

        A live source goes on to take messages; what does not fit its backlog is shed, counted.
        """
        paused, source = self._plan.control.paused, self._plan.source
        if paused:
            self._since_ns = self._since_ns or time.monotonic_ns()
        elif self._since_ns:
            if isinstance(source, Rests):
                source.rest(time.monotonic_ns() - self._since_ns)
            self._since_ns = 0
        return paused
