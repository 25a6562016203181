"""Search for the events that end their worker: by a crash, by the system, or because they hang.

A worker notes in a file, which survives it, which part of a batch it is about to process. Its
successor divides the part at which the worker ended, and so on, until one event is left: that one
is not processed again. A batch of N events costs about log(N) / log(64) workers for each such
event.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
from msgspec import Struct

#: Parts into which a batch, or a part of it, is divided.
_PARTS = 64
KILLS_ITS_WORKER = "kills its worker"
BATCH_KILLS_ITS_WORKERS = "is in a batch that kills its workers"


class _Notes(Struct):
    """Rows that are not processed again, and the part that is being processed: start, stop."""

    killers: list[int] = []
    part: tuple[int, int] | None = None


class CrashSearch:
    """One attempt to process a batch that has ended workers.

    Parameters
    ----------
    path
        File of the notes of earlier attempts; need not exist.
    """

    #: Why the events that it finds failed.
    reason = KILLS_ITS_WORKER

    def __init__(self, path: Path) -> None:
        self._path = path
        text = path.read_bytes() if path.exists() else b""
        self._notes = msgspec.json.decode(text, type=_Notes) if text else _Notes()
        part = self._notes.part
        if part is not None and part[1] - part[0] == 1:
            self._notes.killers.append(part[0])
            self._notes.part = None

    def ranges(self, events: int) -> list[tuple[int, int]]:
        """Return the parts of a batch to be processed one by one, in order: start and stop."""
        edges = {0, events}
        for start, stop in ((0, events), self._notes.part or (0, 0)):
            step = max(1, -(-(stop - start) // _PARTS))
            edges |= set(range(start, stop, step)) | {stop}
        for row in self._notes.killers:
            edges |= {row, row + 1}
        ordered = sorted(edges)
        return list(pairwise(ordered))

    def is_killer(self, start: int, stop: int) -> bool:
        """Whether a part is an event that ended a worker by itself."""
        return stop - start == 1 and start in self._notes.killers

    def begin(self, start: int, stop: int) -> None:
        """Note that a part is processed now."""
        self._notes.part = (start, stop)
        self._write()

    def end(self) -> None:
        """Note that no part is processed now."""
        self._notes.part = None
        self._write()

    def _write(self) -> None:
        unfinished = self._path.with_name(self._path.name + ".new")
        unfinished.write_bytes(msgspec.json.encode(self._notes))
        unfinished.rename(self._path)


class RefusedBatch:
    """In place of a search, where no notes outlive the worker: no event is processed, all fail."""

    reason = BATCH_KILLS_ITS_WORKERS

    def ranges(self, events: int) -> list[tuple[int, int]]:
        """Return the whole batch as one part."""
        return [(0, events)]

    def is_killer(self, start: int, stop: int) -> bool:
        """Return True: nothing is processed."""
        return True

    def begin(self, start: int, stop: int) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


Search = CrashSearch | RefusedBatch
