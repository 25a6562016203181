"""Source for tables of any format, with mapped columns, read ahead in chunks of bounded size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path

from msgspec import Struct

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import T_INGEST, Schema
from sluice.pipeline.sources.base import NONE, UNLIMITED, Available, Losses, Rejected, now_for
from sluice.pipeline.sources.prefetch import Prefetcher
from sluice.pipeline.transport.socket import Socket

from .reader import TableReader, with_reserved
from .rules.field import Table
from .rules.mapping import ColumnMapping, declared_columns


class TableSource(ABC):
    """A source that reads a `Table`; the formats differ only in `open_table`."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Options of all formats."""

        #: A file, or a pattern of several: in the order of their names, ``run2`` before ``run10``.
        path: str
        #: Specification or `ColumnMapping` of each column; all columns of numbers if omitted.
        columns: dict[str, str | ColumnMapping] = {}

    #: Whether lists may be stored in two fields, items and an index.
    takes_index = False

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        # Columns that the graph file declares are known without the file.
        declared = declared_columns(options.columns, options.path)
        self._schema = with_reserved(declared) if declared else Schema()
        self.socket: Socket | None = None
        self._losses = Losses()
        self._reader = TableReader(
            options.path, self.open_table, options.columns, takes_index=self.takes_index
        )
        self._prefetcher = Prefetcher(self._reader.chunks(), self._reject)

    @property
    def schema(self) -> Schema:
        """Columns of the batches: the declared ones, and once it is open all."""
        return self._reader.schema if len(self._reader.schema) else self._schema

    @property
    def expected(self) -> int | None:
        """Number of events of all files; None if not known."""
        return self._reader.expected

    @property
    def exhausted(self) -> bool:
        """Whether all events were read."""
        return self._prefetcher.exhausted

    @property
    def corruption(self) -> str | None:
        """Description of the damage of the file; None if none was found so far."""
        return self._prefetcher.corruption

    @abstractmethod
    def open_table(self, path: Path) -> Table:
        """Open a file as a table; DataError if it is not one."""

    def open(self) -> None:
        """Open the files and find the columns; DataError if one is missing."""
        self._reader.open()

    def select_columns(self, names: Collection[str], events: int) -> None:
        """Read only these columns, but at least one, because it has the number of events."""
        self._reader.select(names)

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
        self._reader.close()

    def _reject(self, rejected: list[Rejected]) -> None:
        for one in rejected:
            self._losses.reject(one)
