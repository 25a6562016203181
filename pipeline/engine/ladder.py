"""The ladder: smaller models, then none, while the full ones do not keep the latency budget.

One rung down when several batches in a row are late. One rung up after a quiet period: no batch was
late, and the rung above would have loaded the workers by less than a limit. If a step up has to be
taken back soon, the next quiet period is twice as long.

The service times of a rung are known from when it was last used, which is when time was short, so
they may be overestimated. A rung whose estimated load is below 2.0 is tried anyway after eight
quiet periods.
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
#: Late batches in a row before a step down: a single one may be due to chance.
_LATE_BATCHES = 8
#: Length of the quiet period before a step up, s: initial and largest.
_QUIET_S, _MAX_QUIET_S = 1.0, 64.0
#: Upper bound on the load of the workers on the rung above, for a step up.
_MAX_LOAD = 0.7
#: Try the rung above anyway if its estimated load, relative to `_MAX_LOAD`, is below 2.0, after 8
#: quiet periods.
_RETRY_LOAD, _RETRY_PERIODS = 2.0, 8


class LadderPolicy:
    """Decides on which rung the next batch is processed.

    Parameters
    ----------
    rungs
        Number of rungs, including the full models.

    Attributes
    ----------
    rung
        Current rung; 0 is the full models.
    """

    def __init__(self, rungs: int) -> None:
        self._lowest_rung = rungs - 1
        self.rung = 0
        self._late = 0
        self._load_s = 0.0
        self._quiet_since_s = 0.0
        self._retries = 0
        self._quiet_s = _QUIET_S
        self._stepped_up_s = float("-inf")

    def on_batch(self, *, late: bool, above_s: float, now_s: float) -> None:
        """Record a batch that is sent now.

        Parameters
        ----------
        late
            Whether it will exceed the latency budget.
        above_s
            Worker time that its events would need on the rung above, per worker, s.
        now_s
            Time, s of CLOCK_MONOTONIC.
        """
        self._late = self._late + 1 if late else 0
        self._load_s += above_s
        if late:
            self._retries = 0
            self._begin_period(now_s)
        if self._late >= _LATE_BATCHES and self.rung < self._lowest_rung:
            self._step_down(now_s)

    def on_tick(self, now_s: float) -> None:
        """Step up if the quiet period is over; called periodically, also without batches."""
        quiet_s = now_s - self._quiet_since_s
        if quiet_s < self._quiet_s:
            return
        if self.rung:
            load = self._load_s / (_MAX_LOAD * quiet_s)
            self._retries = self._retries + 1 if 1.0 <= load < _RETRY_LOAD else 0
            if load < 1.0 or self._retries == _RETRY_PERIODS:
                self.rung -= 1
                self._retries = 0
                self._stepped_up_s = now_s
        self._begin_period(now_s)

    def _step_down(self, now_s: float) -> None:
        soon = now_s - self._stepped_up_s < 2 * self._quiet_s
        self._quiet_s = min(2 * self._quiet_s, _MAX_QUIET_S) if soon else _QUIET_S
        self.rung += 1
        self._late = 0
        self._begin_period(now_s)

    def _begin_period(self, now_s: float) -> None:
        """Begin a new quiet period."""
        self._quiet_since_s, self._load_s = now_s, 0.0


class LadderController:
    """Chooses the rung of each batch, and the pass-through sample that the source must not shed.

    Parameters
    ----------
    context
        The run.
    batching
        Batching policy, with latency budget and service times of each rung; its rung is set.
    """

    def __init__(self, context: RunContext, batching: BatchingPolicy) -> None:
        self._batching, self._accounting = batching, context.accounting
        self._ladder = LadderPolicy(context.graph.rungs)
        stage = context.graph.decision_stage()
        if isinstance(stage, PassesThrough) and isinstance(context.source, ProtectsPassThrough):
            context.source.protect(*stage.pass_through())

    def choose(self, waiting: Available, events: int, workers: int) -> int:
        """Return the rung of a batch of `events` of the waiting events, which is sent now."""
        now_ns = time.monotonic_ns()
        if waiting.oldest_ns:  # a file loses nothing by waiting
            above_s = self._batching.required_s(events, max(0, self._ladder.rung - 1))
            self._ladder.on_batch(
                late=self._batching.is_late(events, waiting.age_s(now_ns)),
                above_s=above_s / max(1, workers),
                now_s=now_ns * 1e-9,
            )
            self._apply(now_ns)
        return self._ladder.rung

    def tick(self) -> None:
        """Step up if it is time."""
        now_ns = time.monotonic_ns()
        self._ladder.on_tick(now_ns * 1e-9)
        self._apply(now_ns)

    def _apply(self, now_ns: int) -> None:
        if self._ladder.rung != self._batching.rung:
            _log_step(self._batching.rung, self._ladder.rung)
            self._batching.rung = self._ladder.rung
            self._accounting.enter_rung(self._ladder.rung, now_ns)


def _log_step(before: int, after: int) -> None:
    """Log a step of the ladder, and why it was made."""
    if after > before:
        why = f"{_LATE_BATCHES} batches in a row were later than the latency budget"
    else:
        why = "no batch was late for a while and the workers have time for more"
    extra = fields("ladder-step", before=before, after=after, reason=why)
    _LOG.info("ladder: from rung %d to %d: %s", before, after, why, extra=extra)
