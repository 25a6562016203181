"""Exceptions of Sluice. Messages say where, what was expected and found; hints what to do."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from typing import ClassVar

from msgspec import Struct


class SluiceError(Exception):
    """Anything Sluice refuses or gives up on.

    Parameters
    ----------
    message
        Where the error is, what was expected and what was found.
    hint
        Advice for the user, printed on a line of its own.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


#: What a process or a host has too few of, and what to do about it, by the number of the error.
_LIMITS = {
    errno.EMFILE: ("open files of this process", "raise `ulimit -n`, or LimitNOFILE of systemd"),
    errno.ENFILE: ("open files of this host", "end other programs, or raise fs.file-max"),
    errno.ENOMEM: (
        "memory",
        "raise `ulimit -v`, or MemoryMax of systemd; or lower graph.window and graph.batch_events",
    ),
    errno.EAGAIN: (
        "threads, processes, or memory for them",
        "raise `ulimit -u` or `ulimit -v`, or TasksMax or MemoryMax of systemd",
    ),
}


def limit_hint(error: BaseException) -> str | None:
    """Return which limit an error tells of, and how to raise it; None for other errors.

    Examples
    --------
    >>> limit_hint(OSError(23, "Too many open files in system"))
    'the limit of open files of this host is reached: end other programs, or raise fs.file-max'
    """
    number = getattr(error, "errno", None)
    if number == errno.EAGAIN and not isinstance(error, OSError):
        return None  # ZeroMQ's error of a message that cannot be sent or received now
    if isinstance(error, MemoryError):
        number = errno.ENOMEM
    elif isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        number = errno.EAGAIN
    if number not in _LIMITS:
        return None
    what, remedy = _LIMITS[number]
    return f"the limit of {what} is reached: {remedy}"


def describe_unforeseen(error: BaseException) -> str:
    """Return a description of an error that nobody foresaw."""
    return f"unforeseen: {type(error).__name__}: {error}"


class ConfigError(SluiceError):
    """The configuration or the command line is wrong; nothing was started."""

    exit_code = 2


class DataError(SluiceError):
    """An input cannot be read at all (wrong magic, missing column, not a recording)."""

    exit_code = 3


class ModelError(SluiceError):
    """A model is missing, differs from its manifest or golden outputs, or lacks its backend."""

    exit_code = 4


class RunError(SluiceError):
    """A run ended in the state ERROR, or its ledger did not close."""

    exit_code = 5

    @staticmethod
    def of(error: BaseException) -> SluiceError:
        """Return an error, or for one that nobody foresaw a RunError that describes it."""
        if isinstance(error, SluiceError):
            return error
        limit = limit_hint(error)
        if limit is not None:
            failure = RunError(f"{type(error).__name__}: {error}", limit)
        else:
            hint = "the log has its traceback at --log-level debug"
            failure = RunError(describe_unforeseen(error), hint)
        failure.__cause__ = error
        return failure


class DeviceLostError(RunError):
    """A device has failed for good: whatever this process asks of it fails, whatever the event."""


#: The run closed, but its input was damaged (a recording cut short, for one).
EXIT_DAMAGED_INPUT = 6
#: A replay of the same batches has other decisions than the recorded run.
EXIT_DIFFERENT = 7
#: This machine lacks something that was asked for.
EXIT_MACHINE_INCOMPLETE = 8


#: The run closed, but it was stopped before it had read all its input.
EXIT_INPUT_UNREAD = 9


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return a hint naming the known word closest to `name`, or all of them."""
    words = sorted(known)
    close = difflib.get_close_matches(name, words, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known here: {', '.join(words)}" if words else None


def shorten(text: str, max_characters: int) -> str:
    """Return a text without its middle if it is longer than `max_characters`.

    Examples
    --------
    >>> shorten("expected 12 fields, got 7", 15)
    'expecte…, got 7'
    """
    if len(text) <= max_characters:
        return text
    half = (max_characters - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


class ProtocolError(DataError):
    """A message that breaks the protocol; it is counted and dropped, the run goes on.

    Attributes
    ----------
    peer
        ZeroMQ identity of the sender; empty if not known.
    """

    peer: bytes = b""


#: Largest message and largest hint in an `ErrorRecord`, characters: both fit an ERROR message.
_MAX_TEXT = 50_000
_KINDS = {kind.__name__: kind for kind in (ConfigError, DataError, ModelError, RunError)}


class ErrorRecord(Struct, frozen=True):
    """Reason of the end of a process, as sent in an ERROR message."""

    process: str
    type: str
    message: str
    hint: str | None = None

    @classmethod
    def of(cls, error: Exception, process: str) -> ErrorRecord:
        """Return the record of an error that ends a process."""
        name = type(error).__name__
        if isinstance(error, SluiceError):
            hint = error.hint and shorten(error.hint, _MAX_TEXT)
            return cls(process, name, shorten(error.message, _MAX_TEXT), hint)
        return cls(process, name, shorten(f"{name}: {error}", _MAX_TEXT))

    def error(self) -> SluiceError:
        """Return the error, of its original class if that is a class of Sluice."""
        return _KINDS.get(self.type, RunError)(f"{self.process}: {self.message}", self.hint)
