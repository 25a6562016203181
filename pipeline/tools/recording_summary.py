"""Summary of a recording: counts, columns, metadata and damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct

from sluice.pipeline.core.schema import Column
from sluice.pipeline.recording import Recording


class FileSummary(Struct, frozen=True):
    """One file of a recording: its path, and the batches and events in it."""

    path: str
    batches: int
    events: int


class RecordingSummary(Struct, frozen=True, kw_only=True):
    """Content of a recording.

    Attributes
    ----------
    path
        Path as the user gave it.
    bytes, batches, events
        Size in bytes, and numbers of batches and events, of all files.
    files
        Summary of each file, in order.
    columns
        Columns of the events.
    bor, eor
        Begin-of-run and end-of-run record; the latter is None if it is missing.
    whole
        Whether nothing is missing or damaged.
    damage
        Description of missing or damaged parts; None without any.
    """

    path: str
    bytes: int
    batches: int
    events: int
    files: tuple[FileSummary, ...]
    columns: tuple[Column, ...]
    bor: dict[str, Any]
    eor: dict[str, Any] | None
    whole: bool
    damage: str | None


def summarise_recording(path: Path) -> RecordingSummary:
    """Read a recording to its end and return its summary.

    Raises
    ------
    DataError
        If there is no recording, or a file of it is missing.
    """
    reader = Recording(path)
    counts = {str(file): [0, 0] for file in reader.files}
    for batch in reader.batches():
        of_file = counts[str(reader.file)]
        of_file[0] += 1
        of_file[1] += batch.events
    reader.close()
    files = tuple(FileSummary(name, *of_file) for name, of_file in counts.items())
    return RecordingSummary(
        path=str(path),
        bytes=sum(file.stat().st_size for file in reader.files),
        batches=sum(file.batches for file in files),
        events=sum(file.events for file in files),
        files=files,
        columns=tuple(reader.schema),
        bor=reader.bor,
        eor=reader.eor,
        whole=reader.corruption is None,
        damage=reader.corruption,
    )
