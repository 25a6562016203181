"""Events from CSV: chip words in hexadecimal (``RX_DATA_*``) or charge tables (``CALQ_*``).

A line that is not an event counts as invalid; the quarantine keeps its number and text.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
from msgspec import Struct

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, T_INGEST, Array, Column, Schema
from sluice.pipeline.transport.socket import Socket

from .base import NONE, UNLIMITED, Available, Losses, Rejected, now_for

#: Time between bunch crossings at the LHC, ns.
CROSSING_NS = 25


class CsvLayout(Struct, frozen=True):
    """Layout of a CSV table.

    Attributes
    ----------
    header
        Names of its fields.
    column
        Column whose item is one row.
    base
        Base of the numbers, 10 or 16.
    """

    header: tuple[str, ...]
    column: Column
    base: int

    def parse(self, fields: list[str]) -> Array:
        """Return one event's item; ValueError with the name of an invalid field."""
        values = []
        for name, text in zip(self.header, fields, strict=True):
            try:
                values.append(int(text, 16) if self.base == 16 else float(text))
            except ValueError:
                wanted = "a hexadecimal word" if self.base == 16 else "a number"
                raise ValueError(f"{name}: expected {wanted}, got {text!r}") from None
            if self.base == 16 and not 0 <= values[-1] < 1 << 32:
                raise ValueError(f"{name}: expected 32 bits, got {text!r}")
        with np.errstate(over="ignore"):  # an overflow becomes infinite, and is rejected later
            return np.array(values, self.column.dtype)


TABLES = (
    CsvLayout(
        tuple(f"RX_DATA_{i}" for i in range(12)),
        Column("words", "uint32", (12,), "link words"),
        16,
    ),
    CsvLayout(tuple(f"CALQ_{i}" for i in range(48)), Column("charge", "float32", (48,), "ADC"), 10),
)


class CsvSource:
    """Reads one CSV file; the event id is the number of the row, from 0."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Path of the file."""

        path: str

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._path = Path(options.path)
        self.schema = Schema()
        self.exhausted = False
        self.corruption: str | None = None
        self.expected: int | None = None
        self.socket: Socket | None = None
        self._line = 1
        self._losses = Losses()

    def open(self) -> None:
        """Read the header; DataError if it matches no layout."""
        try:
            self._file: IO[str] = self._path.open(encoding="ascii", errors="replace")
        except OSError as error:
            raise DataError(f"{self._path}: cannot open: {error.strerror}") from error
        header = tuple(self._file.readline().strip().split(","))
        found = next((table for table in TABLES if table.header == header), None)
        if found is None:
            self._file.close()
            known = " or ".join(f"{t.header[0]} … {t.header[-1]}" for t in TABLES)
            raise DataError(
                f"{self._path}: line 1: expected the header {known}, got {','.join(header)[:80]!r}"
            )
        self._table = found
        self.schema = Schema((EVENT_ID, T_EVENT, T_INGEST, found.column))

    def receive(self) -> None:
        """Do nothing: a file has no socket."""

    def available(self) -> Available:
        """Return that any batch can be full: a file can always be read."""
        return NONE if self.exhausted else UNLIMITED

    def read(self, max_events: int) -> EventBatch | None:
        """Return the events of the next `max_events` lines; fewer if lines are invalid."""
        numbers: Array = np.empty(0, np.int64)
        while not len(numbers):
            lines = [] if self.exhausted else list(islice(self._file, max_events))
            if not lines:
                self.exhausted = True
                return None
            numbers, items = self._parse_all(lines, self._line + 1)
            self._line += len(lines)
        ids = (numbers - 2).astype(np.uint64)
        columns = {
            EVENT_ID.name: ids,
            T_EVENT.name: ids.astype(np.int64) * CROSSING_NS,
            T_INGEST.name: now_for(len(ids)),
            self._table.column.name: items,
        }
        return EventBatch(columns, len(ids))

    def stop(self) -> None:
        """Read no further."""
        self.exhausted = True

    def losses(self) -> Losses:
        """Return the lines that were rejected since the last call."""
        losses, self._losses = self._losses, Losses()
        return losses

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _parse_all(self, lines: list[str], first: int) -> tuple[Array, Array]:
        """Return the numbers of the valid lines and their items, (n,) and (n, width)."""
        numbers, items = [], []
        for number, line in enumerate(lines, first):
            text = line.strip()
            try:
                fields = text.split(",")
                if len(fields) != len(self._table.header):
                    raise ValueError(
                        f"expected {len(self._table.header)} fields, got {len(fields)}"
                    )
                items.append(self._table.parse(fields))
                numbers.append(number)
            except ValueError as error:
                where = f"{self._path.name}: line {number}"
                self._losses.invalid.append(Rejected(where, str(error), text.encode()))
        width = len(self._table.header)
        found = np.array(items, self._table.column.dtype).reshape(-1, width)
        return np.array(numbers, np.int64), found
