"""Reading one file of a recording, batch by batch, as far as it is sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa

from sluice.pipeline.core.arrow import checksum_buffers, from_arrow, from_arrow_schema, validate
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError

from .metadata import BOR, CHECKSUM, COMMIT, CONTINUED, EOR, SEQ, Info, Metadata, checksum, part_of
from .part_files import find_files

_CONTINUATION = b"\xff\xff\xff\xff"


class RecordingReader:
    """Reads one file, batch by batch; `Recording` reads all parts of a recording.

    Attributes
    ----------
    schema, bor
        Columns and the begin-of-run record.
    part
        Which part of a recording the file is; None where it is all of it.
    eor
        The end-of-run record; None until it was read, and for a recording that was cut short.
    damage
        What is wrong with the file and where; None while nothing is.
    commit
        The commit record of the batch that came last; None where it has none.

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
            # Read, not mapped: a file that is cut while it is read would kill the process.
            self._file = pa.OSFile(str(path))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot open: {error}") from error
        try:
            self._stream = pa.ipc.open_stream(self._file)
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{path}: not a recording: {_expected(path)}: {error}",
                hint="expected an Arrow IPC stream; `sluice simulate` and `sluice run` write them",
            ) from error
        self.schema = from_arrow_schema(self._stream.schema, str(path))
        metadata = self._stream.schema.metadata or {}
        self.foreign = BOR not in metadata
        self.part = part_of(metadata)
        try:
            self.bor: Info = msgspec.json.decode(metadata.get(BOR, b"{}"), type=Info)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: begin-of-run record: not JSON: {error}") from error

    def batches(self, *, empty: bool = False) -> Iterator[EventBatch]:
        """Yield each sound batch; stop at the end, or where the file was cut.

        A batch whose checksum or lists are wrong is passed over. `damage` tells. Batches without
        events, which have only a commit record, come where `empty` wishes for them.
        """
        index = 0
        ended = False
        while (pair := self._next(index)) is not None:
            record_batch, metadata = pair
            if EOR in metadata:
                self._end(metadata)
                ended = True
                continue
            batch = self._batch(record_batch, metadata, index)
            if batch is not None and (batch.events or empty):
                self.commit = metadata.get(COMMIT)
                yield batch
            index += 1
        if not ended and not self.foreign:
            self._note(f"no end-of-run record after {index} whole batches")

    def _next(self, index: int) -> tuple[pa.RecordBatch, Metadata] | None:
        """Return the next record batch with its metadata, None at the end."""
        try:
            record_batch, metadata = self._stream.read_next_batch_with_custom_metadata()
        except StopIteration:
            return None
        except (OSError, EOFError, pa.ArrowException) as error:
            self._note(f"cut short after {index} whole batches: {error}")
            return None
        return record_batch, dict(metadata or {})

    def _batch(
        self, record_batch: pa.RecordBatch, metadata: Metadata, index: int
    ) -> EventBatch | None:
        """Return a record batch as events, None if it is not sound."""
        seq = metadata.get(SEQ, b"")
        try:
            validate(record_batch, self.schema)
            batch = from_arrow(record_batch, self.schema, int(seq) if seq.isdigit() else index)
        except (DataError, pa.ArrowException) as error:
            self._note(f"batch {index} (of {record_batch.num_rows} events): {error}")
            return None
        return batch if self._sound(batch, metadata, index) else None

    def _sound(self, batch: EventBatch, metadata: Metadata, index: int) -> bool:
        expected = metadata.get(CHECKSUM)
        if expected is None:  # not written by us, or not by this version
            return True
        got = checksum(metadata, checksum_buffers(batch, self.schema) if batch.events else ())
        if got != expected:
            self._note(
                f"batch {index} (of {batch.events} events): expected the checksum "
                f"{expected.decode(errors='replace')}, got {got.decode()}: bytes have changed "
                "since they were written"
            )
        return got == expected

    def _end(self, metadata: Metadata) -> None:
        if CHECKSUM in metadata and checksum(metadata, ()) != metadata[CHECKSUM]:
            self._note("end-of-run record: wrong checksum: bytes have changed")
        try:
            self.eor = msgspec.json.decode(metadata[EOR], type=Info)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self._note(f"end-of-run record: not JSON: {error}")

    def _note(self, damage: str) -> None:
        """Keep the first damage; what follows may be its consequence."""
        self.corruption = self.corruption or f"{self.path}: {damage}"

    def close(self) -> None:
        """Let go of the file; arrays that were read stay valid."""
        self._file.close()


def _expected(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    return f"expected it to start with {_CONTINUATION!r}, got {start!r}"


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
        self.corruption: str | None = None

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
            self._note(self._reader.corruption)
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
        self.corruption = self.corruption or damage
