"""Log records with named fields, and lines that are added up instead of repeated.

Modules log with the standard library: ``logging.getLogger("sluice.engine")`` and a plain sentence,
with `fields` as ``extra``. `sluice.pipeline.system.log` decides where and how records are written.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Seconds between two lines on the same kind of event.
INTERVAL_S = 10.0
#: Fields of every record of this process, such as the run number; `set_context` changes them.
context: dict[str, object] = {}
# A program that uses Sluice as a library and configures no log gets none.
logging.getLogger("sluice").addHandler(logging.NullHandler())


def fields(event: str, **values: object) -> dict[str, Any]:
    """Return the ``extra`` of a log call.

    Parameters
    ----------
    event
        Name of the event, such as ``worker-exited``; it never changes, the sentence may.
    values
        Fields of the record: numbers, strings or None.
    """
    return {"event": event, "fields": values}


def set_context(**values: object) -> None:
    """Set fields of all further records of this process; None removes one."""
    for name, value in values.items():
        if value is None:
            context.pop(name, None)
        else:
            context[name] = value


@dataclass(kw_only=True, slots=True)
class _Kind:
    """Number of occurrences that were not logged yet, with the latest sentence and fields."""

    logger: logging.Logger
    logged_s: float
    lines: int = 1
    count: int = 0
    level: int = logging.WARNING
    text: str = ""
    values: dict[str, object] = field(default_factory=dict)


class LogLimiter:
    """Limits log lines of frequent events: the first is logged at once, later ones as sums.

    The first occurrence of an event is logged at once. Those of the following `interval_s` are
    added up and logged as one line when it is over, and so on. `flush` must be called now and then,
    so that a sum appears although nothing follows. May be used from any thread.

    Parameters
    ----------
    interval_s
        Shortest time between two lines on the same event, seconds.
    clock
        Monotonic time, seconds.
    bursts
        Number of lines at once before the sums, by event; 1 for all others.

    Examples
    --------
    >>> limiter = LogLimiter()
    >>> log = logging.getLogger("sluice.example")
    >>> limiter.warn(log, "events-shed", "{count:,} events shed by {source}", 7, source="live")
    """

    def __init__(
        self,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
        bursts: Mapping[str, int] | None = None,
    ) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._bursts = dict(bursts or {})
        self._kinds: dict[str, _Kind] = {}
        self._lock = threading.Lock()

    def warn(
        self, logger: logging.Logger, event: str, text: str, count: int = 1, /, **values: object
    ) -> None:
        """Log a warning, or add it to the sum of its event.

        Parameters
        ----------
        logger
            Logger to write to.
        event
            Name of the event; one line per name and interval.
        text
            The sentence, with ``{count}`` and the names of `values` as places. What a peer sent
            goes into `values`.
        count
            Number of occurrences.
        values
            Fields of the record. A sum has those of its latest occurrence.
        """
        self._add(logger, logging.WARNING, event, text, count, values)

    def info(
        self, logger: logging.Logger, event: str, text: str, count: int = 1, /, **values: object
    ) -> None:
        """Log an event at INFO, or add it to the sum of its kind; parameters as for `warn`."""
        self._add(logger, logging.INFO, event, text, count, values)

    def _add(
        self, logger: logging.Logger, level: int, event: str, text: str, count: int,
        values: dict[str, object],
    ) -> None:  # fmt: skip
        with self._lock:
            now_s = self._clock()
            kind = self._kinds.get(event)
            if kind is None or (not kind.count and now_s - kind.logged_s >= self._interval_s):
                at_once = True
                self._kinds[event] = _Kind(logger=logger, logged_s=now_s, level=level)
            elif not kind.count and kind.lines < self._bursts.get(event, 1):
                at_once = True
                kind.lines += 1
            else:
                at_once = False
                kind.count += count
                kind.text, kind.values = text, values
        if at_once:
            line = text.format(count=count, **values)
            logger.log(level, "%s", line, extra=fields(event, count=count, **values))

    def flush(self, *, everything: bool = False) -> None:
        """Log the sums that are due, or all of them at the end of a run."""
        due = []
        with self._lock:
            now_s = self._clock()
            for event, kind in self._kinds.items():
                if kind.count and (everything or now_s - kind.logged_s >= self._interval_s):
                    due.append((event, kind, now_s - kind.logged_s))
                    self._kinds[event] = _Kind(logger=kind.logger, logged_s=now_s, level=kind.level)
            if everything:
                self._kinds.clear()
        for event, kind, seconds in due:
            line = kind.text.format(count=kind.count, **kind.values)
            sums = {"count": kind.count, "seconds": round(seconds, 3)}
            extra = fields(event, **{**kind.values, **sums})
            kind.logger.log(kind.level, "%s (%d in %.1f s)", line, kind.count, seconds, extra=extra)


#: Peers that come and go: as many lines at once as a source has front ends by default.
_BURSTS = dict.fromkeys(
    ("front-end-connected", "front-end-gone", "remote-worker-ready", "remote-worker-gone"), 64
)
#: The limiter of this process; `sluice.pipeline.service.run_log` flushes it.
limiter = LogLimiter(bursts=_BURSTS)
