"""Events from Arrow files of other programs: IPC streams, and IPC files (Feather)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from sluice.pipeline.core.arrow_message import check_unpacked_size
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.recording.metadata import BOR

from .arrow_types import arrow_chunk, fields_of, leaves_of
from .rules.field import NO_DEFAULTS, Field, TableChunk
from .source import TableSource
from .spans import one_line, spans

_FILE, _HEADER_BYTES = b"ARROW1", 8


class ArrowTable:
    """One open file; one that was cut short is read up to its end."""

    defaults = NO_DEFAULTS

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None
        try:
            # Not memory-mapped: if a mapped file is truncated, reading it ends the process.
            self._file = pa.OSFile(str(path))
            self._is_file = self._file.read(_HEADER_BYTES)[: len(_FILE)] == _FILE
            self._schema, self._damage = self._read_schema()
            self._leaves = leaves_of(((f.name, f.type) for f in self._schema), None)
        except Exception as error:  # invalid metadata, such as names that are not UTF-8
            self.close()
            raise DataError(
                f"{path}: expected an Arrow IPC stream or file: {one_line(error)}"
            ) from error
        self.fields = fields_of(self._leaves)

    def check(self, fields: Sequence[Field]) -> None:
        """Do nothing: a missing value is a null."""

    def chunks(self, fields: Sequence[Field], max_events: int) -> Iterator[TableChunk]:
        """Yield record batches, large ones in pieces."""
        leaves = {field: self._leaves[field.name] for field in fields}
        first = 0
        batches = self._checked(self._batches(leaves.values()))
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    break
                batch.validate(full=True)
                pieces = [arrow_chunk(piece, leaves) for piece in _pieces(batch, max_events)]
            except Exception as error:
                raise DataError(f"damaged at event {first}: {one_line(error)}") from error
            yield from pieces
            first += batch.num_rows
        if self._damage:
            raise DataError(f"cut short after event {first}: {self._damage}")

    def storage(self, field: Field) -> str:
        """Return nothing: there is one way to store a column."""
        return ""

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _read_schema(self) -> tuple[pa.Schema, str | None]:
        """Return the schema, and what is missing of a file without a footer."""
        if not self._is_file:
            return self._stream().schema, None
        try:
            return pa.ipc.open_file(self._file).schema, None
        except pa.ArrowException as error:
            # Behind its first bytes a file is a stream.
            return self._stream(_HEADER_BYTES).schema, f"its footer is missing: {one_line(error)}"

    def _stream(self, begin: int = 0, options: Any = None) -> Any:
        self._file.seek(begin)
        return pa.ipc.open_stream(self._file, options=options)

    def _checked(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield record batches; the size of each is checked before it is unpacked."""
        with pa.OSFile(str(self._path)) as file:
            file.seek(_HEADER_BYTES if self._is_file else 0)
            messages = pa.ipc.MessageReader.open_stream(file)
            while True:
                _check_sizes(messages)
                batch = next(batches, None)
                if batch is None:
                    return
                yield batch

    def _batches(self, leaves: Any) -> Iterator[pa.RecordBatch]:
        """Yield the record batches with the columns of these leaves only."""
        names = {leaf.column for leaf in leaves}
        places = [place for place, name in enumerate(self._schema.names) if name in names]
        options = pa.ipc.IpcReadOptions(included_fields=places)
        if not self._is_file or self._damage:
            yield from self._stream(_HEADER_BYTES if self._is_file else 0, options)
            return
        reader = pa.ipc.open_file(self._file, options=options)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def _check_sizes(messages: pa.MessageReader) -> None:
    """Check the messages up to the next record batch; DataError as `check_unpacked_size`."""
    with suppress(pa.ArrowException):  # whoever unpacks them says what is wrong
        for message in messages:
            if message.type in ("record batch", "dictionary"):
                check_unpacked_size(message)
            if message.type == "record batch":
                return


def _pieces(batch: pa.RecordBatch, max_events: int) -> Iterator[pa.RecordBatch]:
    for start, stop in spans([0, batch.num_rows], max_events):
        yield batch.slice(start, stop - start)


def is_foreign(path: Path) -> bool:
    """Whether a file is Arrow data that another program wrote: it has no begin-of-run record."""
    try:
        with pa.OSFile(str(path)) as file:
            if file.read(_HEADER_BYTES)[: len(_FILE)] == _FILE:
                return True
            file.seek(0)
            return BOR not in (pa.ipc.open_stream(file).schema.metadata or {})
    except (OSError, pa.ArrowException):
        return False


class ArrowSource(TableSource):
    """Reads Arrow IPC streams and files of other programs."""

    def open_table(self, path: Path) -> ArrowTable:
        """Open a file; checksums of a recording are not checked: `RecordingSource` does that."""
        return ArrowTable(path)
