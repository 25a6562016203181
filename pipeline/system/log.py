"""The log on stderr: lines for people, JSON lines, or lines with the priorities of journald."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from sluice.pipeline.core.log import context, set_context

#: Environment variable by which child processes get the configuration of their parent.
VARIABLE = "SLUICE_LOG"
_JSON = "json"
#: Priority by level, as syslog and journald number them.
_PRIORITIES = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}
#: Control characters are escaped: a name that a peer chose must not forge a line.
_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


class LogLevel(StrEnum):
    """Minimum level of the records that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def configure(level: LogLevel, process: str, *, as_json: bool = False) -> None:
    """Write the log of this process and of its children to stderr.

    Parameters
    ----------
    level
        Minimum level of the records that are written.
    process
        Name of this process, a field of each record.
    as_json
        One JSON object a line instead of sentences.
    """
    os.environ[VARIABLE] = f"{level},{_JSON}" if as_json else level.value
    _configure(process)


def configure_child(process: str, run: int) -> None:
    """Configure the log as the parent process did; without one there is none.

    Parameters
    ----------
    process
        Name of this process.
    run
        Run number, a field of each record.
    """
    if VARIABLE in os.environ:
        _configure(process)
        set_context(run=run)


def _configure(process: str) -> None:
    level, _, form = os.environ[VARIABLE].partition(",")
    logger = logging.getLogger("sluice")
    for handler in [found for found in logger.handlers if isinstance(found, StderrHandler)]:
        logger.removeHandler(handler)
    journald = is_journal(os.environ)
    formatter = JsonFormatter() if form == _JSON else LineFormatter(with_time=not journald)
    logger.addHandler(StderrHandler(formatter, with_priority=journald))
    logger.setLevel(level.upper())
    context.clear()
    set_context(process=process)


def is_journal(environment: Mapping[str, str]) -> bool:
    """Return whether stderr is the stream to journald that JOURNAL_STREAM names."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        stderr = os.fstat(2)
    except OSError:
        return False
    return (device, inode) == (str(stderr.st_dev), str(stderr.st_ino))


class StderrHandler(logging.Handler):
    """Writes each record in one piece to what `sys.stderr` is at that time.

    A progress bar replaces `sys.stderr` and writes lines above itself.

    Parameters
    ----------
    formatter
        Formats a record as a line.
    with_priority
        Whether each line begins with its priority as ``<N>``, for journald.
    """

    def __init__(self, formatter: logging.Formatter, *, with_priority: bool) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._with_priority = with_priority

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            lines = self.format(record).splitlines()
            if self._with_priority:
                priority = _PRIORITIES.get(record.levelno, 6)
                lines = [f"<{priority}>{line}" for line in lines]
            sys.stderr.write("\n".join(lines) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def _utc(record: logging.LogRecord) -> str:
    """Return the time of a record by RFC 3339, UTC, to the millisecond."""
    time = datetime.fromtimestamp(record.created, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class LineFormatter(logging.Formatter):
    """Time, level, process, run and sentence; a traceback on lines of its own.

    Parameters
    ----------
    with_time
        Whether a line begins with the time.
    """

    def __init__(self, *, with_time: bool) -> None:
        super().__init__()
        self._with_time = with_time

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        run = f"run {context['run']}: " if "run" in context else ""
        time = f"{_utc(record)} " if self._with_time else ""
        sentence = record.getMessage().translate(_ESCAPED)
        process = context.get("process", record.name)
        line = f"{time}{record.levelname:<7} {process}: {run}{sentence}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object: time, level, logger, event, message, and the fields of the record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        found = {
            "time": _utc(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": getattr(record, "event", None),
            "message": record.getMessage(),
            **context,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(found, enc_hook=str).decode()
