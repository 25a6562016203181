"""The states of a run, and how one is asked to pause and to stop."""

from __future__ import annotations

import threading
from enum import Enum

from sluice.pipeline.core.errors import RunError


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
#: Who holds a run that its users paused.
USERS = "run control"


class RunState:
    """The state of a run and the wishes of its users; shared by engine, signals and HTTP.

    A run is PAUSED as long as anyone holds it: its users, or a part that cannot go on for now.

    Attributes
    ----------
    state
        Where the run stands.
    cause
        The first failure, in words; None while all is well.
    holds
        Who holds the run, and why. Never changed in place: a reader may keep what it got.
    stopping, aborting
        Whether the run shall take no more events; whether it shall not even drain.
    """

    def __init__(self) -> None:
        self.state = State.INITIAL
        self.cause: str | None = None
        self.holds: dict[str, str] = {}
        # Not events: a second signal may come while the first sets one, and would wait for it.
        self.stopping = self.aborting = False
        self._lock = threading.RLock()  # a signal may come while the main thread has it

    def transition(self, state: State) -> None:
        """Change the state.

        Raises
        ------
        RunError
            If there is no such way.
        """
        with self._lock:
            if state not in _NEXT[self.state]:
                raise RunError(f"run: no way from {self.state.value} to {state.value}")
            self.state = state

    def fail(self, cause: str) -> None:
        """Go to ERROR for `cause`; later causes are consequences and stay quiet."""
        with self._lock:
            self.cause = self.cause or cause
            self.state = State.ERROR

    def add_hold(self, who: str, why: str) -> None:
        """Pause the run until `who` releases it; RunError unless it runs or is paused already."""
        with self._lock:
            self._require_run("pause")
            self.holds = self.holds | {who: why}
            self.state = State.PAUSED

    def remove_hold(self, who: str) -> None:
        """Take back the hold of `who`, if there is one; the last one lets the run go on."""
        with self._lock:
            self.holds = {holder: why for holder, why in self.holds.items() if holder != who}
            if self.state is State.PAUSED and not self.holds:
                self.state = State.RUNNING

    def pause(self) -> None:
        """Hold the run for its users; RunError if there is none, or it is draining."""
        with self._lock:
            if self.stopping:
                raise RunError("run: cannot pause: it drains to its end")
            self.add_hold(USERS, "paused by its users")

    def resume(self) -> None:
        """Take back the users' hold; RunError if there is no run, or something else holds it."""
        with self._lock:
            self._require_run("resume")
            self.remove_hold(USERS)
            if self.holds:
                others = "; ".join(f"{who}: {why}" for who, why in self.holds.items())
                raise RunError(f"run: still PAUSED: {others}")

    def _require_run(self, action: str) -> None:
        if self.state not in (State.RUNNING, State.PAUSED):
            raise RunError(f"run: cannot {action} while {self.state.value}")

    def request_stop(self) -> None:
        """Drain and stop; asked a second time, stop without draining."""
        self.aborting = self.stopping
        self.stopping = True
        self.remove_hold(USERS)  # what the source has taken shall be judged

    @property
    def paused(self) -> bool:
        """Whether nothing shall be read from the source for now."""
        return self.state is State.PAUSED
