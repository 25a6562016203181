"""Columns and schemas: names, dtypes, item shapes and units of the columns of a batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from .ragged import Ragged

Array = NDArray[Any]
#: Maximum number of values in one event's item of a column, a list included.
MAX_ITEM = 1 << 24
#: Maximum length of a list, in items, where the column sets none.
_MAX_ITEMS = 65_536
#: Length of each list in the batches for warm-up, items.
_SAMPLE_ITEMS = 32


class Column(msgspec.Struct, frozen=True):
    """The contract of one column: `(events, *shape)` values of `dtype`, in `unit`.

    `labels` name the entries of the last axis, so that a menu can say ``score.electromagnetic``.
    Where the first axis of `shape` is None the column is ragged: each event has a list of items,
    at most `max_items` of them.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] = ()
    unit: str = "1"
    labels: tuple[str, ...] = ()
    max_items: int = 0

    @property
    def ragged(self) -> bool:
        """Whether each event has a list of items, of any length."""
        return self.shape[:1] == (None,)

    @property
    def spec(self) -> str:
        """Dtype and item shape, as error messages print them: ``uint32[12]``, ``float32[*,7]``."""
        shape = ",".join("*" if n is None else str(n) for n in self.shape)
        return f"{self.dtype}[{shape}]" if self.shape else self.dtype

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one event's item; of a ragged column, of one item of a list."""
        return tuple(n for n in self.shape if n is not None)

    @property
    def item_bytes(self) -> int:
        """Bytes of one event's item; of a ragged column, of one item of a list."""
        return np.dtype(self.dtype).itemsize * math.prod(self.item_shape)

    @property
    def item_limit(self) -> int:
        """Maximum number of items of one event in a ragged column."""
        limit = MAX_ITEM // max(1, math.prod(self.item_shape))
        return min(self.max_items or _MAX_ITEMS, limit)

    def empty(self, events: int) -> Any:
        """Return an uninitialised array for `events` events, or a `Ragged` without items."""
        if self.ragged:
            return self.zeros(events)
        return np.empty((events, *self.item_shape), dtype=self.dtype)

    def zeros(self, events: int) -> Any:
        """Return zeros for `events` events, or a `Ragged` without items."""
        if self.ragged:
            nothing = np.empty((0, *self.item_shape), dtype=self.dtype)
            return Ragged.from_counts(nothing, np.zeros(events, np.int64))
        return np.zeros((events, *self.item_shape), dtype=self.dtype)

    def sample_zeros(self, events: int) -> Any:
        """Return zeros for `events` events, with a few items in each list of a ragged column."""
        if not self.ragged:
            return self.zeros(events)
        counts = np.full(events, min(_SAMPLE_ITEMS, self.item_limit))
        items = np.zeros((counts.sum(), *self.item_shape), dtype=self.dtype)
        return Ragged.from_counts(items, counts)


EVENT_ID = Column("event_id", "uint64")
T_EVENT = Column("t_event", "int64", unit="ns")
T_INGEST = Column("t_ingest", "int64", unit="ns")
OUTCOME = Column("outcome", "uint8")
DECISION = Column("decision", "uint64", unit="path bits")
RESERVED = (EVENT_ID, T_EVENT, T_INGEST, OUTCOME, DECISION)
#: Columns of the decision record, which a sink may ask for; they are filled for kept events.
BATCH_SEQ = Column("batch_seq", "uint64")
BATCH_EVENTS = Column("batch_events", "uint32")
RUNG = Column("rung", "uint8")
EPOCH = Column("epoch", "uint32")
PRESCALE = Column("prescale", "float32")
WAIT_NS = Column("wait_ns", "int64", unit="ns")
SERVICE_NS = Column("service_ns", "int64", unit="ns")
DECISION_RECORD_COLUMNS = (BATCH_SEQ, BATCH_EVENTS, RUNG, EPOCH, PRESCALE, WAIT_NS, SERVICE_NS)


class Schema:
    """An ordered set of columns, by name.

    Examples
    --------
    >>> schema = Schema((EVENT_ID, Column("charge", "float32", (48,), "ADC")))
    >>> schema.names
    ('event_id', 'charge')
    >>> schema["charge"].spec
    'float32[48]'
    """

    __slots__ = ("_columns", "_specs", "ragged")

    def __init__(self, columns: Iterable[Column] = ()) -> None:
        self._columns = {column.name: column for column in columns}
        self._specs = [(c.name, np.dtype(c.dtype), c.shape) for c in self._columns.values()]
        #: Names of the ragged columns.
        self.ragged = tuple(c.name for c in self._columns.values() if c.ragged)

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order."""
        return tuple(self._columns)

    @property
    def specs(self) -> list[tuple[str, np.dtype[Any], tuple[int | None, ...]]]:
        """Name, dtype and item shape of each column, for checks in the hot path."""
        return self._specs

    def __iter__(self) -> Iterator[Column]:
        return iter(self._columns.values())

    def __len__(self) -> int:
        return len(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Schema({', '.join(f'{column.name} {column.spec}' for column in self)})"

    def merge(self, columns: Iterable[Column]) -> Schema:
        """Return this schema with `columns` added; a column of the same name is replaced."""
        return Schema((*self, *columns))

    def select(self, names: Iterable[str]) -> Schema:
        """Return the columns named, in this schema's order."""
        wanted = set(names)
        return Schema(column for column in self if column.name in wanted)
