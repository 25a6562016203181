"""Reports of the daemon's state, to its log and to systemd."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sluice.pipeline.core.log import fields
from sluice.pipeline.run.state import State

from .sd_notify import LoopWatchdog, SystemdNotifier

_LOG = logging.getLogger("sluice.run")
#: Seconds between two looks at what changes by itself; systemd's watchdog may be one second.
POLL_S = 0.25


class DaemonStatus:
    """Logs the states of a daemon's runs and sends them to systemd.

    Parameters
    ----------
    turns
        Returns a number that changes with each iteration of the main loop; None without a loop.
    ending
        Returns whether a signal has asked the daemon to end.
    """

    def __init__(self, turns: Callable[[], int | None], ending: Callable[[], bool]) -> None:
        self._turns = turns
        self._ending = ending
        self._stopping_sent = False

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Send WATCHDOG and STOPPING to systemd from a thread, until left."""
        with SystemdNotifier() as self._systemd:
            watchdog = LoopWatchdog(self._systemd, self._turns)

            def poll() -> None:
                watchdog.poll(time.monotonic())
                self._notify_stopping()

            with ticker(poll, POLL_S):
                yield

    def ready(self, text: str = "") -> None:
        """Report to systemd that the daemon is ready, with `text` unless it is in a run."""
        self._systemd.send(READY=1, **({"STATUS": text} if text else {}))

    def state(self, state: State, graph: str, run: int | None = None, what: str = "") -> None:
        """Log a state.

        Parameters
        ----------
        state
            The new state.
        graph
            Name of the graph.
        run
            Run number; None outside of a run.
        what
            Activity of the graph, as a part of the sentence.
        """
        extra = fields("run-state", state=state.value, graph=graph)
        sentence = f"{state.value}: graph {graph} {what}".rstrip()
        _LOG.info("%s", sentence, extra=extra)
        of_run = f"run {run} of " if run is not None else ""
        self._systemd.send(STATUS=f"{state.value}: {of_run}graph {graph}")

    def not_started(self, why: str) -> None:
        """Log that a run could not start."""
        _LOG.error("could not start: %s", why, extra=fields("run-not-started", cause=why))
        self._systemd.send(STATUS=f"ERROR: {why}")

    def ended(self, report: dict[str, Any]) -> None:
        """Log the end of a run, with the main numbers of its report."""
        self._notify_stopping()
        if report["error"]:
            extra = fields("run-failed", state=report["state"], graph=report["graph"],
                           cause=report["error"], hint=report["hint"])  # fmt: skip
            _LOG.error("the run ended in ERROR: %s", report["error"], extra=extra)
            self._systemd.send(STATUS=f"ERROR: {report['error']}")
            return
        events = report["events"]
        what = f"done: {events['offered']:,} events, {events['accepted']:,} accepted"
        self.state(State(report["state"]), report["graph"], report["run"], what)

    def _notify_stopping(self) -> None:
        """Report to systemd, once, that a signal ends the daemon."""
        if self._ending() and not self._stopping_sent:
            self._stopping_sent = True
            self._systemd.send(STOPPING=1, STATUS="draining")


@contextmanager
def ticker(tick: Callable[[], None], period_s: float = 0.1) -> Iterator[None]:
    """Call `tick` from a thread every `period_s`, and once at the end."""
    done = threading.Event()

    def loop() -> None:
        while not done.wait(period_s):
            tick()

    thread = threading.Thread(target=loop, name="sluice-ticker")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        tick()
