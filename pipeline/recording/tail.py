"""Where the last whole batch of a file ends that was cut short, and what it says."""

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


class ResumeOffset(Struct, frozen=True):
    """Where and how to go on with a recording.

    Attributes
    ----------
    bor
        The begin-of-run record, as it was written.
    end
        Bytes up to the end of the last whole batch, the end-of-run record left out.
    rows
        Events up to there.
    batches
        Record batches up to there.
    commits
        The last commit records, oldest first.
    complete
        Whether `commits` are all that the file has.
    ended
        Whether there is an end-of-run record, other than one that names the next part.
    part
        Which part of a recording the file is; None where it is all of it.
    """

    bor: bytes
    end: int
    rows: int
    batches: int
    commits: list[bytes]
    complete: bool
    ended: bool
    part: FilePart | None = None


def find_resume_offset(path: Path, most: int = 256) -> ResumeOffset:
    """Look for the last whole batch of a recording; its checksum decides.

    Parameters
    ----------
    path
        The file, which nobody writes to.
    most
        Read the metadata of this many batches at the end.

    Raises
    ------
    DataError
        If the file cannot be read, or not even its begin-of-run record is whole.
    """
    try:
        ends = _ends(path)
        with path.open("rb") as file:
            head = file.read(ends[0])
            first = max(0, len(ends) - 1 - most)
            file.seek(ends[first])
            recent = file.read(ends[-1] - ends[first])
        schema = pa.ipc.read_schema(pa.py_buffer(head))
        columns = from_arrow_schema(schema, str(path))
        bor = schema.metadata[BOR]
    except (*_UNREADABLE, IndexError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: cannot go on: expected a recording with a begin-of-run record: {error}"
        ) from error
    found = _metadata(head + recent, columns)
    closed = bool(found) and EOR in found[-1]
    ended = closed and not _continued(found[-1][EOR])
    found = found[:-1] if closed else found
    rows = int(found[-1].get(ROWS, b"0")) if found else 0
    commits = [metadata[COMMIT] for metadata in found if COMMIT in metadata]
    batches = first + len(found)
    part = part_of(schema.metadata)
    return ResumeOffset(bor, ends[batches], rows, batches, commits, first == 0, ended, part)


def _continued(eor: bytes) -> bool:
    try:
        return CONTINUED in msgspec.json.decode(eor, type=Info)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False


def _ends(path: Path) -> list[int]:
    """Return where each whole message ends, that of the schema first."""
    ends: list[int] = []
    with pa.OSFile(str(path)) as file:
        messages = pa.ipc.MessageReader.open_stream(file)
        while True:
            try:
                messages.read_next_message()
            except (StopIteration, *_UNREADABLE):
                return ends
            ends.append(file.tell())


def _metadata(stream: bytes, columns: Schema) -> list[Metadata]:
    """Return the metadata of the record batches up to the first that is not sound."""
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
