"""The states of a run, and how one is asked to stop."""

from __future__ import annotations

import threading
from enum import Enum

from .errors import RunError


class State(Enum):
    """Where a run stands."""

    INITIAL = "INITIAL"
    CONFIGURED = "CONFIGURED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"
    ERROR = "ERROR"


_NEXT = {
    State.INITIAL: {State.CONFIGURED, State.ERROR},
    State.CONFIGURED: {State.RUNNING, State.STOPPED, State.ERROR},
    State.RUNNING: {State.PAUSED, State.STOPPED, State.ERROR},
    State.PAUSED: {State.RUNNING, State.STOPPED, State.ERROR},
    State.STOPPED: {State.CONFIGURED, State.ERROR},
    State.ERROR: set(),
}


class Control:
    """The state of a run and the wishes of its users; shared by engine, signals and HTTP.

    Attributes
    ----------
    state
        Where the run stands.
    cause
        The first failure, in words; None while all is well.
    """

    def __init__(self) -> None:
        self.state = State.INITIAL
        self.cause: str | None = None
        self._stop = threading.Event()
        self._abort = threading.Event()

    def go(self, state: State) -> None:
        """Change the state.

        Raises
        ------
        RunError
            If there is no such way.
        """
        if state not in _NEXT[self.state]:
            raise RunError(f"run: no way from {self.state.value} to {state.value}")
        self.state = state

    def fail(self, cause: str) -> None:
        """Go to ERROR for `cause`; later causes are consequences and stay quiet."""
        self.cause = self.cause or cause
        self.state = State.ERROR

    def ask_to_stop(self) -> None:
        """Drain and stop; asked a second time, stop without draining."""
        if self._stop.is_set():
            self._abort.set()
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether the run shall take no more events."""
        return self._stop.is_set()

    @property
    def aborting(self) -> bool:
        """Whether the run shall not even drain."""
        return self._abort.is_set()
