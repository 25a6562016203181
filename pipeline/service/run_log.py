"""Log records on a run's counters: lost and shed events, monitors out of band, draining."""

from __future__ import annotations

import logging

from sluice.pipeline.core.log import fields, limiter
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.snapshot import RunSnapshot
from sluice.pipeline.run.state import RunState

_LOG = logging.getLogger("sluice.run")
#: Sentence by class of the ledger.
_CLASSES = {
    "lost": "{count:,} events lost: the event counter of a front end jumped",
    "shed": "{count:,} events shed: the backlog of the source was full",
    "invalid": "{count:,} events refused: they are not what the source declares",
    "failed": "{count:,} events failed: a stage could not process them, or the run broke off",
}


class RunLog:
    """Logs changes of a run's counters since the last poll.

    Parameters
    ----------
    accounting
        Accounting of the run.
    control
        State of the run.
    """

    def __init__(self, accounting: RunAccounting, control: RunState) -> None:
        self._accounting = accounting
        self._control = control
        self._counted = accounting.snapshot().events
        self._outside: set[str] = set()
        self._draining = False

    def poll(self) -> None:
        """Log the changes since the last call; called several times a second, from one thread."""
        now = self._accounting.snapshot()
        self._losses(now)
        self._monitors(now)
        limiter.flush()
        if self._control.stopping and not self._draining:
            self._draining = True
            _LOG.info("draining: no more events are taken", extra=fields("run-draining"))

    def close(self) -> None:
        """Log the remaining changes at the end of the run."""
        self.poll()
        limiter.flush(everything=True)

    def _losses(self, now: RunSnapshot) -> None:
        counted = now.events
        for name, text in _CLASSES.items():
            events = counted[name] - self._counted[name]
            if events:
                limiter.warn(_LOG, f"events-{name}", text, events)
        self._counted = counted

    def _monitors(self, now: RunSnapshot) -> None:
        outside = set(now.monitors_out_of_band)
        for name in sorted(outside - self._outside):
            extra = fields("monitor-out-of-band", monitor=name)
            _LOG.warning("monitor %s has left the band of the reference run", name, extra=extra)
        for name in sorted(self._outside - outside):
            extra = fields("monitor-in-band", monitor=name)
            _LOG.info("monitor %s is back in the band of the reference run", name, extra=extra)
        self._outside = outside
