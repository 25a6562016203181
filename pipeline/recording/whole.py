"""A recording as it is read: one file, or all its parts one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..batch import EventBatch
from ..errors import DataError
from .marks import CONTINUED, Info
from .parts import find_files
from .reading import RecordingReader


class Recording:
    """Reads a recording, batch by batch, whatever files it is in.

    Parameters
    ----------
    path
        What `find_files` takes: a file, the first part of several, a folder, a pattern.

    Attributes
    ----------
    files
        All of them, in order.
    schema, bor
        Columns and the begin-of-run record.
    damage
        What is wrong with the files and where; None while nothing is.

    Raises
    ------
    DataError
        If there is no recording, or a part of it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = find_files(path)
        self._reader = RecordingReader(self.files[0])
        self.schema, self.bor = self._reader.schema, self._reader.bor
        self.damage: str | None = None

    @property
    def file(self) -> Path:
        """The file that is being read."""
        return self._reader.path

    @property
    def eor(self) -> Info | None:
        """The end-of-run record; None until it was read, or if there is none."""
        return self._reader.eor

    @property
    def commit(self) -> bytes | None:
        """The commit record of the batch that came last; None where it has none."""
        return self._reader.commit

    def batches(self, *, empty: bool = False) -> Iterator[EventBatch]:
        """Yield each sound batch of each file in order; see `RecordingReader.batches`.

        Raises
        ------
        DataError
            If a part is no recording, or one of another run.
        """
        before = 0
        for file in self.files:
            if file != self.file:
                self._go_on(file)
            self._require_behind(before)
            for batch in self._reader.batches(empty=empty):
                before += batch.events
                yield batch
            self._note(self._reader.damage)
        ahead = (self.eor or {}).get(CONTINUED)
        if ahead is not None and self._begins():
            self._note(f"{self.file}: cut short: expected to go on in {ahead}, which is missing")

    def close(self) -> None:
        """Let go of the file; arrays that were read stay valid."""
        self._reader.close()

    def _go_on(self, file: Path) -> None:
        self._reader.close()
        self._reader = RecordingReader(file)
        if self._reader.bor != self.bor or self._reader.schema != self.schema:
            raise DataError(
                f"{file}: expected a part of run {self.bor.get('run')} as {self.files[0].name} "
                f"begins it, got one of run {self._reader.bor.get('run')}",
                hint="files of two runs are mixed here",
            )

    def _begins(self) -> bool:
        """Whether the files begin with the first part, not with one that is read by itself."""
        part = self._reader.part
        return part is not None and part.number == len(self.files)

    def _require_behind(self, events: int) -> None:
        part = self._reader.part
        if part is not None and len(self.files) > 1 and part.events != events:
            self._note(f"{self.file}: expected {part.events} events before it, got {events}")

    def _note(self, damage: str | None) -> None:
        """Keep the first damage; what follows may be its consequence."""
        self.damage = self.damage or damage
