"""The ladder: narrower models, then none, while there is no time for the full ones.

Down one rung when several batches in a row are later than the latency budget. Up one rung when
for a while no batch was late and all of them would have left the workers some rest on the rung
above. A step up that has to be taken back soon makes the next one wait twice as long.

What a rung takes is known from when it last judged, which is when time was short: it may be less by
now. So a rung that seems too dear by less than half is tried nevertheless, after eight such whiles.
"""

from __future__ import annotations

import logging
import time

from sluice.pipeline.core.log import fields
from sluice.pipeline.sources.base import Available, ProtectsPassThrough
from sluice.pipeline.stages.capabilities import PassesThrough

from .base import RunContext
from .batching import BatchingPolicy

_LOG = logging.getLogger("sluice.engine")
#: Batches in a row that are late before a step down: one late batch says little.
_LATE = 8
#: Seconds without a late batch before a step up, at first and at most.
_REST_S, _MOST_REST_S = 1.0, 64.0
#: Share of the workers' time that the rung above may have needed.
_ROOM = 0.7
#: By how much what the rung above needs may be overrated, and after how many rests to find out.
_DOUBT, _TRY = 2.0, 8


class LadderPolicy:
    """Which rung judges the next batch.

    Parameters
    ----------
    rungs
        How many there are, the full models among them.

    Attributes
    ----------
    rung
        Now; 0 are the full models.
    """

    def __init__(self, rungs: int) -> None:
        self._last = rungs - 1
        self.rung = 0
        self._late = 0
        self._needed_s = 0.0
        self._quiet_since_s = 0.0
        self._retries = 0
        self._rest_s = _REST_S
        self._up_at_s = float("-inf")

    def on_batch(self, *, late: bool, above_s: float, now_s: float) -> None:
        """Take a batch into account.

        Parameters
        ----------
        late
            Whether it cannot keep the budget, though it goes now.
        above_s
            What its events would need on the rung above, over the number of workers.
        now_s
            CLOCK_MONOTONIC.
        """
        self._late = self._late + 1 if late else 0
        self._needed_s += above_s
        if late:
            self._retries = 0
            self._begin(now_s)
        if self._late >= _LATE and self.rung < self._last:
            self._down(now_s)

    def on_tick(self, now_s: float) -> None:
        """Step up if it is time; called now and then, with batches or without."""
        quiet_s = now_s - self._quiet_since_s
        if quiet_s < self._rest_s:
            return
        if self.rung:
            needed = self._needed_s / (_ROOM * quiet_s)
            self._retries = self._retries + 1 if 1.0 <= needed < _DOUBT else 0
            if needed < 1.0 or self._retries == _TRY:
                self.rung -= 1
                self._retries = 0
                self._up_at_s = now_s
        self._begin(now_s)

    def _down(self, now_s: float) -> None:
        hasty = now_s - self._up_at_s < 2 * self._rest_s
        self._rest_s = min(2 * self._rest_s, _MOST_REST_S) if hasty else _REST_S
        self.rung += 1
        self._late = 0
        self._begin(now_s)

    def _begin(self, now_s: float) -> None:
        """Begin to look for rest anew."""
        self._quiet_since_s, self._needed_s = now_s, 0.0


class LadderController:
    """Chooses rungs by what waits; tells the source which events it may not shed.

    Parameters
    ----------
    plan
        The run.
    batching
        Knows the budget, and what batches take on each rung; is told the rung.
    """

    def __init__(self, plan: RunContext, batching: BatchingPolicy) -> None:
        self._batching, self._account = batching, plan.account
        self._ladder = LadderPolicy(plan.graph.rungs)
        judge = plan.graph.decision_stage()
        if isinstance(judge, PassesThrough) and isinstance(plan.source, ProtectsPassThrough):
            plan.source.protect(*judge.pass_through())

    def choose(self, waiting: Available, events: int, workers: int) -> int:
        """Return the rung of a batch of so many of the waiting events, which goes now."""
        now_ns = time.monotonic_ns()
        if waiting.oldest_ns:  # a file has all the time in the world
            above_s = self._batching.required_s(events, max(0, self._ladder.rung - 1))
            age_s = (now_ns - waiting.oldest_ns) * 1e-9
            self._ladder.on_batch(
                late=self._batching.is_late(events, age_s),
                above_s=above_s / max(1, workers),
                now_s=now_ns * 1e-9,
            )
            self._apply(now_ns)
        return self._ladder.rung

    def tick(self) -> None:
        """Let the ladder see that time has passed."""
        now_ns = time.monotonic_ns()
        self._ladder.on_tick(now_ns * 1e-9)
        self._apply(now_ns)

    def _apply(self, now_ns: int) -> None:
        if self._ladder.rung != self._batching.rung:
            _log_step(self._batching.rung, self._ladder.rung)
            self._batching.rung = self._ladder.rung
            self._account.enter_rung(self._ladder.rung, now_ns)


def _log_step(before: int, after: int) -> None:
    """Log a step of the ladder, and why it was made."""
    if after > before:
        why = f"{_LATE} batches in a row were later than the latency budget"
    else:
        why = "no batch was late for a while and the workers have time for more"
    extra = fields("ladder-step", before=before, after=after, reason=why)
    _LOG.info("ladder: from rung %d to %d: %s", before, after, why, extra=extra)
