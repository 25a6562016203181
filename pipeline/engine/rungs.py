"""The ladder in the engine: which rung judges the next batch, and the account of it."""

from __future__ import annotations

import time

from ..batching import Batching
from ..ladder import Ladder
from ..sources import Spares, Waiting
from ..stages import Spares as SparingStage
from . import Plan


class Rungs:
    """Chooses rungs by what waits; tells the source which events it may not shed.

    Parameters
    ----------
    plan
        The run.
    batching
        Knows the budget, and what batches take on each rung; is told the rung.
    """

    def __init__(self, plan: Plan, batching: Batching) -> None:
        self._batching, self._account = batching, plan.account
        self._ladder = Ladder(plan.graph.rungs)
        judge = plan.graph.judge()
        if isinstance(judge, SparingStage) and isinstance(plan.source, Spares):
            plan.source.spare(*judge.spared())

    def choose(self, waiting: Waiting, events: int, workers: int) -> int:
        """Return the rung of a batch of so many of the waiting events, which goes now."""
        now_ns = time.monotonic_ns()
        if waiting.oldest_ns:  # a file has all the time in the world
            above_s = self._batching.needs(events, max(0, self._ladder.rung - 1))
            age_s = (now_ns - waiting.oldest_ns) * 1e-9
            self._ladder.note(
                late=self._batching.late(events, age_s),
                above_s=above_s / max(1, workers),
                now_s=now_ns * 1e-9,
            )
            self._go(now_ns)
        return self._ladder.rung

    def tick(self) -> None:
        """Let the ladder see that time has passed."""
        now_ns = time.monotonic_ns()
        self._ladder.tick(now_ns * 1e-9)
        self._go(now_ns)

    def _go(self, now_ns: int) -> None:
        if self._ladder.rung != self._batching.rung:
            self._batching.rung = self._ladder.rung
            self._account.ladder.go(self._ladder.rung, now_ns)
