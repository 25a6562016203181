"""Source for tables of any format, with mapped columns, read ahead in chunks of bounded size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from msgspec import Struct

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError, DataError
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, T_INGEST, Array, Column, Schema
from sluice.pipeline.sources.base import NONE, UNLIMITED, Available, Losses, Rejected, now_for
from sluice.pipeline.sources.prefetch import Chunk, Prefetcher, chunk_events
from sluice.pipeline.transport.socket import Socket

from .columns import FilledColumn, ValuesByField, fill_column
from .mapping import ColumnMapping, Field, declared_columns, resolve_mapping


class Table(Protocol):
    """An open file of columns of one length."""

    @property
    def fields(self) -> Mapping[str, Field]:
        """Columns by name, also those that cannot be used."""

    def chunks(
        self, fields: Sequence[Field], max_events: int
    ) -> Iterator[tuple[int, ValuesByField]]:
        """Yield number of events and values of these fields, about `max_events` events at a time.

        Raises
        ------
        DataError
            If the file is damaged, after all events before the damage were yielded.
        """

    def close(self) -> None:
        """Close the file."""


class TableSource(ABC):
    """A source that reads a `Table`; the formats differ only in `open_table`."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Options of all formats."""

        path: str
        #: Specification or `ColumnMapping` of each column; all columns of numbers if omitted.
        columns: dict[str, str | ColumnMapping] = {}

    #: Whether lists may be stored in two fields, items and offsets.
    takes_offsets = False

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._columns = options.columns
        self._path = Path(options.path)
        # Columns that the graph file declares are known without the file.
        declared = declared_columns(options.columns, str(self._path))
        self.schema = _with_reserved(declared) if declared else Schema()
        self.expected: int | None = None
        self.socket: Socket | None = None
        self._losses = Losses()
        self._prefetcher = Prefetcher(self._chunks(), self._reject)

    @property
    def exhausted(self) -> bool:
        """Whether all events were read."""
        return self._prefetcher.exhausted

    @property
    def corruption(self) -> str | None:
        """Description of the damage of the file; None if none was found so far."""
        return self._prefetcher.corruption

    @abstractmethod
    def open_table(self) -> Table:
        """Open the file as a table; DataError if it is not one."""

    def open(self) -> None:
        """Open the file and find the columns; DataError if one is missing."""
        if not self._path.is_file():
            raise DataError(f"{self._path}: cannot open: no such file")
        self._table = self.open_table()
        try:
            self._fillings = resolve_mapping(self._columns, self._table.fields, str(self._path))
            if any(f.offsets for filling in self._fillings for f in filling.fields):
                self._require_offsets()
        except BaseException:
            self._table.close()
            raise
        self.expected = self._fillings[0].fields[0].events
        self.schema = _with_reserved(filling.column for filling in self._fillings)

    def _require_offsets(self) -> None:
        if not self.takes_offsets:
            raise ConfigError(
                f"{self._path}: offsets: expected none: lists are columns in files of this kind"
            )

    def select_columns(self, names: Collection[str], events: int) -> None:
        """Read only these columns, but at least one, because it has the number of events."""
        self._fillings = [f for f in self._fillings if f.column.name in names] or self._fillings[:1]

    def receive(self) -> None:  # noqa: B027 - as meant: a file has no socket
        """Do nothing: a file has no socket."""

    def available(self) -> Available:
        """Return that any batch can be full: a file can always be read."""
        return NONE if self.exhausted else UNLIMITED

    def read(self, max_events: int) -> EventBatch | None:
        """Return the next `max_events` events, fewer only at the end."""
        batch = self._prefetcher.read(max_events)
        return batch and batch.with_columns(**{T_INGEST.name: now_for(batch.events)})

    def stop(self) -> None:
        """Read no further."""
        self._prefetcher.stop()

    def losses(self) -> Losses:
        """Return the events that were rejected since the last call."""
        losses, self._losses = self._losses, Losses()
        return losses

    def close(self) -> None:
        """Close the file."""
        self._prefetcher.close()
        self._table.close()

    def _reject(self, rejected: list[Rejected]) -> None:
        self._losses.invalid += rejected

    def _chunks(self) -> Iterator[Chunk]:
        """Yield the chunks of the table; DataError if the file is damaged."""
        fields = {field.name: field for f in self._fillings for field in f.fields}
        size = chunk_events(sum(field.item_bytes for field in fields.values()))
        first = 0
        try:
            for events, parts in self._table.chunks(list(fields.values()), size):
                filled = {f.column.name: fill_column(f, parts, events) for f in self._fillings}
                yield self._assemble(filled, first, events)
                first += events
        except DataError as error:
            raise DataError(f"{self._path}: {error.message}", error.hint) from error

    def _assemble(self, filled: dict[str, FilledColumn], first: int, events: int) -> Chunk:
        """Return the valid events as a batch, and the rejected ones."""
        refused = {row: why for column in filled.values() for row, why in column.refused.items()}
        columns: dict[str, Array | Ragged] = {
            EVENT_ID.name: np.arange(first, first + events, dtype=np.uint64),
            T_EVENT.name: np.zeros(events, np.int64),
            **{name: column.values for name, column in filled.items()},
        }
        batch = EventBatch(columns, events)
        if not refused:
            return Chunk(batch, [])
        rejected = [
            Rejected(f"{self._path.name}: event {first + row}", reason, raw)
            for row, (reason, raw) in sorted(refused.items())
        ]
        return Chunk(batch.take(np.setdiff1d(np.arange(events), list(refused))), rejected)


def _with_reserved(columns: Iterable[Column]) -> Schema:
    return Schema((EVENT_ID, T_EVENT, T_INGEST)).merge(columns)


def readable(
    read: Callable[[int, int], ValuesByField], bounds: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, ValuesByField]]:
    """Yield the result of `read` for each span of events, and for the good part of a damaged one.

    Raises
    ------
    DataError
        If an event cannot be read, after all events before it were yielded.
    """
    for start, stop in bounds:
        try:
            yield stop - start, read(start, stop)
            continue
        except Exception as error:  # libraries raise any exception for invalid data
            cause = error
        while stop - start > 1:
            middle = (start + stop) // 2
            try:
                parts = read(start, middle)
            except Exception as error:
                stop, cause = middle, error
            else:
                yield middle - start, parts
                start = middle
        raise DataError(f"damaged at event {start}: {one_line(cause)}") from cause


def one_line(error: Exception) -> str:
    """Return the first line of an error's text, with its type if the text is short."""
    text = str(error).strip().partition("\n")[0]
    return text if len(text) > 20 else f"{type(error).__name__}: {text}"


def spans(edges: Sequence[int], max_events: int) -> Iterator[tuple[int, int]]:
    """Yield spans of at most `max_events` events, which end at `edges` where possible.

    Examples
    --------
    >>> list(spans([0, 4, 8, 30], 10))
    [(0, 8), (8, 18), (18, 28), (28, 30)]
    """
    start = last = edges[0]
    for edge in edges:
        if edge - start > max_events and last > start:
            yield start, last
            start = last
        while edge - start > max_events:
            yield start, start + max_events
            start += max_events
        last = edge
    if last > start:
        yield start, last
