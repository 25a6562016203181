"""The ledger: every event offered in exactly one class, every nanosecond in exactly one state."""

from __future__ import annotations

from enum import Enum

from sluice.pipeline.core.batch import Outcome

CLASSES = tuple(outcome for outcome in Outcome if outcome is not Outcome.OPEN)


class RunTime(Enum):
    """What a nanosecond of a run was spent on."""

    LIVE = "live"
    PAUSED = "paused"
    #: Credit was out: the source had to wait, or shed.
    BUSY = "busy"
    #: No worker was ready.
    DOWN = "down"


class Ledger:
    """Counts events by class and nanoseconds by state; says whether both sums close.

    `offered` is counted where events enter, the classes where they leave, so that the sums can
    disagree.

    Time begins with `start`.
    """

    def __init__(self) -> None:
        self.offered = 0
        self.counts = [0] * len(Outcome)
        self._started = self._since = 0
        self._time = RunTime.DOWN
        self._spent = dict.fromkeys(RunTime, 0)

    def start(self, now_ns: int) -> None:
        """Begin the run's time at `now_ns`, CLOCK_MONOTONIC."""
        self._started = self._since = now_ns
        self._time = RunTime.LIVE

    def offer(self, events: int) -> None:
        """Count events that enter."""
        self.offered += events

    def count(self, outcome: Outcome, events: int) -> None:
        """Count events that leave in one class."""
        self.counts[outcome] += events

    def count_all(self, counts: list[int]) -> None:
        """Count events that leave, by outcome."""
        for outcome, events in enumerate(counts):
            self.counts[outcome] += events

    def enter_state(self, state: RunTime, now_ns: int) -> None:
        """Spend the time since the last call on the state that lasted, and go to `state`."""
        self._spent[self._time] += now_ns - self._since
        self._since = now_ns
        self._time = state

    @property
    def settled(self) -> int:
        """Events in a class."""
        return sum(self.counts[outcome] for outcome in CLASSES)

    @property
    def wall_ns(self) -> int:
        """Nanoseconds from the start to the last `enter`."""
        return self._since - self._started

    @property
    def closed(self) -> bool:
        """Whether every event offered is in a class, none is left open, and the time adds up."""
        return (
            self.offered == self.settled
            and self.counts[Outcome.OPEN] == 0
            and sum(self._spent.values()) == self.wall_ns
        )

    def events(self) -> dict[str, int]:
        """Return the events of the report."""
        return {
            "offered": self.offered,
            **{outcome.name.lower(): self.counts[outcome] for outcome in CLASSES},
        }

    def seconds(self) -> dict[str, float]:
        """Return the seconds of the report."""
        spent = {state.value: ns / 1e9 for state, ns in self._spent.items()}
        return {"wall": self.wall_ns / 1e9, **spent}
