"""Ledger: every event offered has exactly one outcome, every nanosecond exactly one state."""

from __future__ import annotations

from enum import Enum

from sluice.pipeline.core.batch import Outcome

CLASSES = tuple(outcome for outcome in Outcome if outcome is not Outcome.OPEN)


class RunTime(Enum):
    """State of a run to which its time is counted."""

    LIVE = "live"
    PAUSED = "paused"
    #: No worker had credit: the source had to wait, or shed.
    BUSY = "busy"
    #: No worker was ready, or nothing was committed although batches were in flight.
    DOWN = "down"


class Ledger:
    """Counts events by outcome and nanoseconds by state, and checks both sums.

    Events are counted as offered where they enter and by outcome where they leave, so that a lost
    event makes the sums differ. Time begins with `start`.

    Attributes
    ----------
    offered
        Number of events that entered.
    counts
        Number of events that left, by `Outcome`.
    """

    def __init__(self) -> None:
        self.offered = 0
        self.counts = [0] * len(Outcome)
        self._start_ns = self._since_ns = 0
        self._state = RunTime.DOWN
        self._spent_ns = dict.fromkeys(RunTime, 0)

    def start(self, now_ns: int) -> None:
        """Begin the run's time at `now_ns`, CLOCK_MONOTONIC."""
        self._start_ns = self._since_ns = now_ns
        self._state = RunTime.LIVE

    def offer(self, events: int) -> None:
        """Count events that enter."""
        self.offered += events

    def count(self, outcome: Outcome, events: int) -> None:
        """Count events that leave with one outcome."""
        self.counts[outcome] += events

    def count_all(self, counts: list[int]) -> None:
        """Count events that leave; the index in `counts` is the number of the outcome."""
        for outcome, events in enumerate(counts):
            self.counts[outcome] += events

    def enter_state(self, state: RunTime, now_ns: int) -> None:
        """Count the time since the last call in its state and go to `state`."""
        self._spent_ns[self._state] += now_ns - self._since_ns
        self._since_ns = now_ns
        self._state = state

    def stop(self, now_ns: int) -> None:
        """Count the time since the last call in its state: the run's time ends at `now_ns`."""
        self.enter_state(self._state, now_ns)

    @property
    def settled(self) -> int:
        """Number of events that have an outcome."""
        return sum(self.counts[outcome] for outcome in CLASSES)

    @property
    def wall_ns(self) -> int:
        """Time from the start to the last `enter_state` or `stop`, ns."""
        return self._since_ns - self._start_ns

    @property
    def closed(self) -> bool:
        """Whether every event has an outcome, none is open, and the time adds up."""
        return (
            self.offered == self.settled
            and self.counts[Outcome.OPEN] == 0
            and sum(self._spent_ns.values()) == self.wall_ns
            and min(self._spent_ns.values()) >= 0
        )

    def events(self) -> dict[str, int]:
        """Return the report's ``events``: offered, and by outcome."""
        return {
            "offered": self.offered,
            **{outcome.name.lower(): self.counts[outcome] for outcome in CLASSES},
        }

    def seconds(self) -> dict[str, float]:
        """Return the report's ``seconds``: wall, and by state."""
        spent = {state.value: ns / 1e9 for state, ns in self._spent_ns.items()}
        return {"wall": self.wall_ns / 1e9, **spent}
