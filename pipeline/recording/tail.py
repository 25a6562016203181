"""Resume offset: the end of the last whole batch of a file that was cut short.

Only the end of the file is read, whatever its length: a record batch has its place in the file, and
places are searched from the end. A file of an earlier version has none; the headers of all its
messages are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from .metadata import COMMIT, CONTINUED, EOR, ROWS, FilePart, Info, Metadata, Place
from .record_file import RecordFile

#: Bytes at the end of a file whose record batches are checked; more, if none of them is sound.
_CHECKED_BYTES = 64 << 20


class ResumeOffset(Struct, frozen=True, kw_only=True):
    """Offset in a file at which a writer continues, and the state of the recording there.

    Attributes
    ----------
    bor
        Begin-of-run record, as it was written.
    end
        Offset of the end of the last whole batch, bytes; an end-of-run record comes after it.
    rows
        Number of events up to there.
    batches
        Number of record batches up to there.
    commits
        Latest commit records, oldest first.
    ended
        Whether the file has an end-of-run record, other than one that names the next file.
    part
        Position of the file in a rotated recording; None if the recording is not rotated.
    """

    bor: bytes
    end: int
    rows: int
    batches: int
    commits: list[bytes]
    ended: bool
    part: FilePart | None = None

    @property
    def begin_of_run(self) -> Info:
        """Begin-of-run record, decoded; `find_resume_offset` has checked it."""
        return msgspec.json.decode(self.bor, type=Info)


def find_resume_offset(
    path: Path, enough: Callable[[bytes], bool] = lambda _: True
) -> ResumeOffset:
    """Find the end of the last whole batch with a valid checksum.

    Parameters
    ----------
    path
        Path of the file, which no process writes.
    enough
        Called with the oldest commit record found so far; whether no older ones are needed.

    Raises
    ------
    DataError
        If the file cannot be read, or its begin-of-run record is incomplete.
    """
    with RecordFile(path) as file:
        places = file.places()
        begin, found = _checked_end(file, places)
        closed = bool(found) and EOR in found[-1][0]
        batches = found[:-1] if closed else found
        end = batches[-1][1] if batches else begin
        commits = _commits(metadata for metadata, _ in batches)
        while commits and not enough(commits[0]):
            begin, older = _older_commits(file, places, begin)
            if not older:
                break
            commits = older + commits
        return ResumeOffset(
            bor=file.bor,
            end=end.offset,
            rows=_rows(batches[-1][0]) if batches else 0,
            batches=end.number,
            commits=commits,
            ended=closed and not _names_next_file(found[-1][0][EOR]),
            part=file.part,
        )


def _checked_end(
    file: RecordFile, places: Iterator[Place]
) -> tuple[Place, list[tuple[Metadata, Place]]]:
    """Return a place near the end, and metadata and end of the sound record batches from there on.

    It is the first place if no sound record batch is found before.
    """
    max_bytes = _CHECKED_BYTES
    for place in places:
        if file.size - place.offset >= max_bytes:
            if found := _sound(file, place):
                return place, found
            max_bytes *= 2
    first = Place(file.head_bytes, 0)
    return first, _sound(file, first)


def _sound(file: RecordFile, place: Place) -> list[tuple[Metadata, Place]]:
    return [(record.metadata, behind) for record, behind in file.records_from(place)]


def _older_commits(
    file: RecordFile, places: Iterator[Place], before: Place
) -> tuple[Place, list[bytes]]:
    """Return a place before another one, and the commit records between; none if damaged."""
    if before.offset == file.head_bytes:
        return before, []
    begin = next((p for p in places if before.offset - p.offset >= _CHECKED_BYTES), None)
    begin = begin or Place(file.head_bytes, 0)
    found: list[Metadata] = []
    for record, behind in file.records_from(begin):
        found.append(record.metadata)
        if behind == before:
            return begin, _commits(found)
    return begin, []


def _commits(found: Iterable[Metadata]) -> list[bytes]:
    return [metadata[COMMIT] for metadata in found if COMMIT in metadata]


def _rows(metadata: Metadata) -> int:
    rows = metadata.get(ROWS, b"")
    return int(rows) if rows.isdigit() and len(rows) < 20 else 0


def _names_next_file(eor: bytes) -> bool:
    try:
        return CONTINUED in msgspec.json.decode(eor, type=Info)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
