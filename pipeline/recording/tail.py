"""Resume offset: the end of the last whole batch of a file that was cut short."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow as pa
from msgspec import Struct

from sluice.pipeline.core.arrow import checksum_buffers, from_arrow, from_arrow_schema, validate
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import Schema

from .metadata import (
    BOR,
    CHECKSUM,
    COMMIT,
    CONTINUED,
    EOR,
    ROWS,
    FilePart,
    Info,
    Metadata,
    checksum,
    part_of,
)

_UNREADABLE = (OSError, EOFError, ValueError, DataError, pa.ArrowException)


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
    complete
        Whether `commits` has all commit records of the file.
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
    complete: bool
    ended: bool
    part: FilePart | None = None


def find_resume_offset(path: Path, max_batches: int = 256) -> ResumeOffset:
    """Find the end of the last whole batch with a valid checksum.

    Parameters
    ----------
    path
        Path of the file, which no process writes.
    max_batches
        Number of batches, at the end of the file, whose metadata and checksums are read.

    Raises
    ------
    DataError
        If the file cannot be read, or its begin-of-run record is incomplete.
    """
    try:
        ends = _message_ends(path)
        with path.open("rb") as file:
            head = file.read(ends[0])
            first = max(0, len(ends) - 1 - max_batches)
            file.seek(ends[first])
            recent = file.read(ends[-1] - ends[first])
        schema = pa.ipc.read_schema(pa.py_buffer(head))
        columns = from_arrow_schema(schema, str(path))
        bor = schema.metadata[BOR]
    except (*_UNREADABLE, IndexError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: cannot continue: expected a recording with a begin-of-run record: {error}"
        ) from error
    found = _valid_metadata(head + recent, columns)
    closed = bool(found) and EOR in found[-1]
    ended = closed and not _names_next_file(found[-1][EOR])
    found = found[:-1] if closed else found
    rows = int(found[-1].get(ROWS, b"0")) if found else 0
    commits = [metadata[COMMIT] for metadata in found if COMMIT in metadata]
    batches = first + len(found)
    part = part_of(schema.metadata)
    return ResumeOffset(
        bor=bor,
        end=ends[batches],
        rows=rows,
        batches=batches,
        commits=commits,
        complete=first == 0,
        ended=ended,
        part=part,
    )


def _names_next_file(eor: bytes) -> bool:
    try:
        return CONTINUED in msgspec.json.decode(eor, type=Info)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False


def _message_ends(path: Path) -> list[int]:
    """Return the offset of the end of each whole message, bytes; the first is the schema."""
    ends: list[int] = []
    with pa.OSFile(str(path)) as file:
        messages = pa.ipc.MessageReader.open_stream(file)
        while True:
            try:
                messages.read_next_message()
            except (StopIteration, *_UNREADABLE):
                return ends
            ends.append(file.tell())


def _valid_metadata(stream: bytes, columns: Schema) -> list[Metadata]:
    """Return the metadata of the record batches before the first damaged one."""
    found: list[Metadata] = []
    reader = pa.ipc.open_stream(stream)
    while True:
        try:
            record_batch, metadata = reader.read_next_batch_with_custom_metadata()
            validate(record_batch, columns)
            metadata = dict(metadata or {})
            events = from_arrow(record_batch, columns)
        except (StopIteration, *_UNREADABLE):
            return found
        held = checksum_buffers(events, columns) if events.events else ()
        if metadata.get(CHECKSUM) != checksum(metadata, held):
            return found
        found.append(metadata)
