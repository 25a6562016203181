"""Reader of one table, or of several files of the same columns, as chunks of events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from msgspec import Struct

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError, DataError
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, T_INGEST, Array, Column, Schema
from sluice.pipeline.sources.base import Rejected
from sluice.pipeline.sources.prefetch import Chunk, chunk_events

from .files import find_inputs
from .rules.columns import FilledColumn, fill_column
from .rules.field import Field, Table, TableChunk
from .rules.mapping import ColumnFill, Mappings, resolve_mapping


class _OpenFile(Struct, frozen=True):
    path: Path
    table: Table
    fills: list[ColumnFill]

    @property
    def events(self) -> int | None:
        """Number of events; None if only reading shows it."""
        return self.fills[0].fields[0].events

    def check(self, names: Collection[str]) -> list[ColumnFill]:
        """Return what fills some columns; DataError, naming file and column, if values lack."""
        chosen = [fill for fill in self.fills if fill.column.name in names]
        for fill in chosen:
            try:
                self.table.check(fill.fields)
            except DataError as error:
                where = f"{self.path}: column {fill.column.name!r}"
                raise DataError(f"{where}: {error.message}", error.hint) from error
        return chosen


class TableReader:
    """Reads files of the same columns one after another.

    Parameters
    ----------
    path
        Path of a file, or a pattern; the order is that of `find_inputs`.
    open_table
        Opens a file; DataError if it is no such table.
    columns
        Specification or mapping of each column; all columns of numbers if empty.
    takes_index
        Whether lists may be stored in two fields, items and an index.

    Attributes
    ----------
    schema
        Columns of the batches, once it is open.
    expected
        Number of events of all files; None if not known.
    """

    def __init__(
        self, path: str, open_table: Callable[[Path], Table], columns: Mappings, *,
        takes_index: bool = False,
    ) -> None:  # fmt: skip
        self._path, self._open_table, self._columns = path, open_table, columns
        self._takes_index = takes_index
        self._file: _OpenFile | None = None
        self.expected: int | None = None
        self.schema = Schema()

    def open(self) -> None:
        """Open each file and find the columns; DataError if one is missing or differs."""
        self._paths = find_inputs(self._path)
        first = self._open(self._paths[0])
        events = [first.events]
        for path in self._paths[1:]:
            file = self._open(path)
            _require_same(first, file)
            events.append(file.events)
        known = [number for number in events if number is not None]
        self.expected = sum(known) if len(known) == len(events) else None
        self.schema = with_reserved(fill.column for fill in first.fills)
        self._names = {fill.column.name for fill in first.fills}

    def select(self, names: Collection[str]) -> None:
        """Read only these columns, but at least one, because it has the number of events."""
        fills = self._open(self._paths[0]).fills
        chosen = [fill for fill in fills if fill.column.name in names] or fills[:1]
        self._names = {fill.column.name for fill in chosen}
        self._open(self._paths[0]).check(self._names)

    def chunks(self) -> Iterator[Chunk]:
        """Yield the events of all files; DataError at the end if a file is damaged."""
        begin, damage = 0, None
        for path in self._paths:
            first, events = begin, None
            try:
                file = self._open(path)
                events = file.events
                for chunk in self._read(file):
                    where = partial(_where, chunk, path, first - begin)
                    fills = [fill for fill in file.fills if fill.column.name in self._names]
                    yield assemble(chunk, fills, where, first, file.table.defaults.event_ns)
                    first += chunk.events
            except DataError as error:
                damage = damage or error
            begin = first if events is None else begin + events
        if damage is not None:
            raise damage

    def close(self) -> None:
        """Close the file that is open."""
        if self._file is not None:
            self._file.table.close()
            self._file = None

    def _open(self, path: Path) -> _OpenFile:
        """Return a file, open; the one that was open before is closed."""
        if self._file is not None and self._file.path == path:
            return self._file
        self.close()
        table = self._open_table(path)
        try:
            columns = self._columns or table.defaults.columns
            fills = resolve_mapping(columns, table.fields, str(path))
            self._require_no_index(fills, path)
            file = _OpenFile(path, table, fills)
            if self._columns:
                file.check([fill.column.name for fill in fills])
        except BaseException:
            table.close()
            raise
        self._file = file
        return file

    def _require_no_index(self, fills: list[ColumnFill], path: Path) -> None:
        indexed = (field for fill in fills for field in fill.fields if field.index)
        if not self._takes_index and (field := next(indexed, None)) is not None:
            raise ConfigError(
                f"{path}: {field.index[0][0]}: expected none: lists are columns in files of "
                "this kind"
            )

    def _read(self, file: _OpenFile) -> Iterator[TableChunk]:
        """Yield the values of the selected columns; DataError with the path if it is damaged."""
        fields = self._fields(file.check(self._names))
        size = chunk_events(sum(field.item_bytes for field in fields))
        try:
            yield from file.table.chunks(fields, size)
        except DataError as error:
            raise DataError(f"{file.path}: {error.message}", error.hint) from error

    def _fields(self, fills: list[ColumnFill]) -> list[Field]:
        return list(dict.fromkeys(field for fill in fills for field in fill.fields))


def assemble(
    chunk: TableChunk, fills: Iterable[ColumnFill], where: Callable[[int], str], first: int,
    event_ns: int = 0,
) -> Chunk:  # fmt: skip
    """Return the valid events of some values as a batch, and the rejected ones.

    Parameters
    ----------
    chunk
        Values of the fields of all columns.
    fills
        Columns, and the fields that fill them.
    where
        Returns the origin of the event in a row, for `Rejected.where`.
    first
        Event id of the first event, where the table has none.
    event_ns
        Time between two events, ns, where the table has no times.
    """
    filled = {fill.column.name: fill_column(fill, chunk.values, chunk.events) for fill in fills}
    ids = np.arange(first, first + chunk.events, dtype=np.uint64)
    columns: dict[str, Array | Ragged] = {
        EVENT_ID.name: ids,
        T_EVENT.name: ids.astype(np.int64) * event_ns,
        **{name: column.values for name, column in filled.items()},
    }
    batch = EventBatch(columns, chunk.events)
    refused = _refused(chunk, filled.values())
    if not refused:
        return Chunk(batch, [])
    rejected = [Rejected(where(row), *why) for row, why in sorted(refused.items())]
    return Chunk(batch.take(np.setdiff1d(np.arange(chunk.events), list(refused))), rejected)


def with_reserved(columns: Iterable[Column]) -> Schema:
    """Return the schema of a table's columns with those that every event has."""
    return Schema((EVENT_ID, T_EVENT, T_INGEST)).merge(columns)


def _refused(chunk: TableChunk, filled: Iterable[FilledColumn]) -> dict[int, tuple[str, bytes]]:
    """Return the rows of the events that are rejected, to the first reason and the raw bytes."""
    refused = {row: (reason, b"") for row, reason in chunk.invalid.items()}
    for column in filled:
        refused = column.refused | refused
    if not chunk.lines:
        return refused
    return {row: (reason, chunk.lines[row][1].encode()) for row, (reason, _) in refused.items()}


def _where(chunk: TableChunk, path: Path, first: int, row: int) -> str:
    if chunk.lines:
        return f"{path.name}: line {chunk.lines[row][0]}"
    return f"{path.name}: event {first + row}"


def _require_same(first: _OpenFile, file: _OpenFile) -> None:
    """Raise DataError if a file has other columns than the first, or of another form."""
    forms = {fill.column.name: _forms(fill) for fill in file.fills}
    for fill in first.fills:
        name, expected = fill.column.name, _forms(fill)
        got = forms.pop(name, "no such column")
        if got != expected:
            raise DataError(
                f"{file.path}: column {name!r}: expected {expected} as in {first.path}, got {got}",
                "name the columns to read in `columns`, or read such files by themselves",
            )
    for name, got in forms.items():
        raise DataError(
            f"{file.path}: column {name!r}: expected no such column, as in {first.path}, got {got}",
            "name the columns to read in `columns`",
        )


def _forms(fill: ColumnFill) -> str:
    """Return the forms of a column's fields as messages print them, units of times included."""
    return ", ".join(f"{field.form} {field.time_unit}".strip() for field in fill.fields)
