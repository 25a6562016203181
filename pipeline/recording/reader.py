"""Readers of one file and of a recording, batch by batch; damaged batches are left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa

from sluice.pipeline.core.arrow_message import read_schema
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError

from .batch_decoder import UNREADABLE, BatchDecoder, Record
from .metadata import (
    BOR,
    COMMIT,
    CONTINUED,
    EOR,
    Info,
    Metadata,
    bor_has_changed,
    part_of,
    read_bor,
)
from .part_files import find_files

_CONTINUATION = b"\xff\xff\xff\xff"


class RecordingReader:
    """Reads one file, batch by batch; `Recording` reads all files of a recording.

    Attributes
    ----------
    schema, bor
        Columns, and begin-of-run record.
    foreign
        Whether the file has no begin-of-run record: another program wrote it.
    part
        Position of the file in a rotated recording; None if the recording is not rotated.
    eor
        End-of-run record; None until it was read, and if the file was cut short.
    corruption
        First damage found and its place; None without damage.
    commit
        Commit record of the latest batch; None if it has none.

    Raises
    ------
    DataError
        If the file is not an Arrow IPC stream at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.eor: Info | None = None
        self.corruption: str | None = None
        self.commit: bytes | None = None
        try:
            # Not memory-mapped: if a mapped file is truncated, reading it ends the process.
            self._file = pa.OSFile(str(path))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot open: {error}") from error
        try:
            self._messages = pa.ipc.MessageReader.open_stream(self._file)
            schema = read_schema(self._messages.read_next_message())
        except (StopIteration, *UNREADABLE) as error:
            self._file.close()
            raise DataError(
                f"{path}: not a recording: {_wrong_start(path)}{error}",
                hint="expected an Arrow IPC stream; `sluice simulate` and `sluice run` write them",
            ) from error
        self._decoder = BatchDecoder(schema, str(path))
        self.schema = self._decoder.schema
        metadata = schema.metadata or {}
        self.foreign = BOR not in metadata
        self.part = part_of(metadata)
        self.bor = read_bor(metadata, path)
        if bor_has_changed(metadata):
            self._note_damage("begin-of-run record: bytes have changed since it was written")

    def batches(self, *, empty: bool = False) -> Iterator[EventBatch]:
        """Yield each undamaged batch, up to the end or to where the file was cut short.

        A batch with a wrong checksum, or with inconsistent lists, is left out and described in
        `corruption`.

        Parameters
        ----------
        empty
            Whether to yield batches without events too, which have only a commit record.
        """
        index = 0
        ended = False
        while (message := self._next(index)) is not None:
            record = self._decode(message, index)
            if record is not None and record.is_eor:
                self._read_eor(record.metadata)
                ended = True
                continue
            if record is not None and (record.batch.events or empty):
                self.commit = record.metadata.get(COMMIT)
                yield record.batch
            index += 1
        if not ended and not self.foreign:
            self._note_damage(f"no end-of-run record after {index} whole batches")

    def _next(self, index: int) -> pa.Message | None:
        """Return the next message, None at the end."""
        try:
            return self._messages.read_next_message()
        except StopIteration:
            return None
        except UNREADABLE as error:
            self._note_damage(f"cut short after {index} whole batches: {error}")
            return None

    def _decode(self, message: pa.Message, index: int) -> Record | None:
        """Return the record in a message; None if it is damaged."""
        try:
            return self._decoder.decode(message, index)
        except DataError as error:
            self._note_damage(error.message)
            return None

    def _read_eor(self, metadata: Metadata) -> None:
        try:
            self.eor = msgspec.json.decode(metadata[EOR], type=Info)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self._note_damage(f"end-of-run record: not JSON: {error}")

    def _note_damage(self, damage: str) -> None:
        """Keep the first damage; later ones may be its consequences."""
        self.corruption = self.corruption or f"{self.path}: {damage}"

    def close(self) -> None:
        """Close the file; arrays that were read stay valid."""
        self._file.close()


def _wrong_start(path: Path) -> str:
    """Return what is wrong with the first bytes of a file; nothing if they are right."""
    with path.open("rb") as file:
        start = file.read(4)
    if start == _CONTINUATION:
        return ""
    return f"expected it to start with {_CONTINUATION!r}, got {start!r}: "


class Recording:
    """Reads all files of a recording, batch by batch.

    Parameters
    ----------
    path
        Path as for `find_files`: a file, the first of several, a folder or a pattern.

    Attributes
    ----------
    files
        Paths of the files, in order.
    schema, bor
        Columns, and begin-of-run record.
    corruption
        First damage found and its place; None without damage.

    Raises
    ------
    DataError
        If there is no recording, or a file of it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = find_files(path)
        self._reader = RecordingReader(self.files[0])
        self.schema, self.bor = self._reader.schema, self._reader.bor
        self.corruption: str | None = None

    @property
    def file(self) -> Path:
        """Path of the file that is being read."""
        return self._reader.path

    @property
    def eor(self) -> Info | None:
        """End-of-run record; None until it was read, and if there is none."""
        return self._reader.eor

    @property
    def commit(self) -> bytes | None:
        """Commit record of the latest batch; None if it has none."""
        return self._reader.commit

    def batches(self, *, empty: bool = False) -> Iterator[EventBatch]:
        """Yield each undamaged batch of each file, in order.

        Parameters
        ----------
        empty
            Whether to yield batches without events too, which have only a commit record.

        Raises
        ------
        DataError
            If a file is no recording, or belongs to another run.
        """
        before = 0
        for file in self.files:
            if file != self.file:
                self._open_next(file)
            self._check_events_before(before)
            for batch in self._reader.batches(empty=empty):
                before += batch.events
                yield batch
            self._note_damage(self._reader.corruption)
        next_file = (self.eor or {}).get(CONTINUED)
        if next_file is not None and self._has_all_before():
            self._note_damage(
                f"{self.file}: cut short: expected to continue in {next_file}, which is missing "
                "or ends within its schema"
            )

    def close(self) -> None:
        """Close the file; arrays that were read stay valid."""
        self._reader.close()

    def _open_next(self, file: Path) -> None:
        self._reader.close()
        self._reader = RecordingReader(file)
        if self._reader.bor != self.bor or self._reader.schema != self.schema:
            raise DataError(
                f"{file}: expected a file of run {self.bor.get('run')}, like {self.files[0].name}, "
                f"got one of run {self._reader.bor.get('run')}",
                hint="files of two runs are mixed here",
            )

    def _has_all_before(self) -> bool:
        """Whether all files up to this one are read, not this one alone."""
        part = self._reader.part
        return part is not None and part.number == len(self.files)

    def _check_events_before(self, events: int) -> None:
        part = self._reader.part
        if part is not None and len(self.files) > 1 and part.events != events:
            self._note_damage(f"{self.file}: expected {part.events} events before it, got {events}")

    def _note_damage(self, damage: str | None) -> None:
        """Keep the first damage; later ones may be its consequences."""
        self.corruption = self.corruption or damage
