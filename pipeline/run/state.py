"""State of a run, and the requests to pause and to stop it."""

from __future__ import annotations

import threading
from enum import Enum

from sluice.pipeline.core.errors import RunError


class State(Enum):
    """States of a run."""

    INITIAL = "INITIAL"
    CONFIGURED = "CONFIGURED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"
    ERROR = "ERROR"


_TRANSITIONS = {
    State.INITIAL: {State.CONFIGURED, State.ERROR},
    State.CONFIGURED: {State.RUNNING, State.STOPPED, State.ERROR},
    State.RUNNING: {State.PAUSED, State.STOPPED, State.ERROR},
    State.PAUSED: {State.RUNNING, State.STOPPED, State.ERROR},
    State.STOPPED: {State.CONFIGURED, State.ERROR},
    State.ERROR: set(),
}
#: Holder of a run that its users paused.
USERS = "run control"


class RunState:
    """State of a run and the requests of its users, for engine, signal handlers and HTTP.

    A run is PAUSED as long as it has a hold: of its users, or of a component that has to wait.

    Attributes
    ----------
    state
        Current state.
    cause
        Message of the first failure; None without one.
    hint
        Advice for it; None without any.
    holds
        Reason of each hold, by holder. Replaced, never changed: a reader may keep the dictionary.
    stopping
        Whether the run takes no more events.
    aborting
        Whether the run ends without draining.
    input_unread
        Whether the run was stopped before it had read all its input files.
    """

    def __init__(self) -> None:
        self.state = State.INITIAL
        self.cause: str | None = None
        self.hint: str | None = None
        self.holds: dict[str, str] = {}
        # Not threading.Event: a second signal that comes while the first sets one would deadlock.
        self.stopping = self.aborting = self.input_unread = False
        self._lock = threading.RLock()  # a signal handler may run while the main thread holds it

    def transition(self, state: State) -> None:
        """Change the state.

        Raises
        ------
        RunError
            If no transition leads there from the current state.
        """
        with self._lock:
            if state not in _TRANSITIONS[self.state]:
                raise RunError(f"run: no transition from {self.state.value} to {state.value}")
            self.state = state

    def fail(self, cause: str, hint: str | None = None) -> None:
        """Go to ERROR; only the first cause is kept, later ones are its consequences."""
        with self._lock:
            if self.cause is None:
                self.cause, self.hint = cause, hint
            self.state = State.ERROR

    def add_hold(self, holder: str, reason: str) -> None:
        """Pause the run until `holder` removes its hold; RunError unless it runs or is paused."""
        with self._lock:
            self._require_run("pause")
            self.holds = self.holds | {holder: reason}
            self.state = State.PAUSED

    def remove_hold(self, holder: str) -> None:
        """Remove a hold, if there is one; the run goes on when none is left."""
        with self._lock:
            self.holds = {name: reason for name, reason in self.holds.items() if name != holder}
            if self.state is State.PAUSED and not self.holds:
                self.state = State.RUNNING

    def pause(self) -> None:
        """Pause the run for its users; RunError if it does not run, or is draining."""
        with self._lock:
            if self.stopping:
                raise RunError("run: cannot pause while draining")
            self.add_hold(USERS, "paused by its users")

    def resume(self) -> None:
        """Remove the users' hold; RunError if there is no run, or another hold remains."""
        with self._lock:
            self._require_run("resume")
            self.remove_hold(USERS)
            if self.holds:
                others = "; ".join(f"{name}: {reason}" for name, reason in self.holds.items())
                raise RunError(f"run: still PAUSED: {others}")

    def _require_run(self, action: str) -> None:
        if self.state not in (State.RUNNING, State.PAUSED):
            raise RunError(f"run: cannot {action} while {self.state.value}")

    def request_stop(self) -> None:
        """Ask the run to drain and stop; asked a second time, to stop without draining."""
        self.aborting = self.stopping
        self.stopping = True
        self.remove_hold(USERS)  # events that the source has taken are processed before the end

    @property
    def paused(self) -> bool:
        """Whether nothing is read from the source for now."""
        return self.state is State.PAUSED
