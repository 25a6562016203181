"""Events from CSV files: a header with names, then one line of numbers for each event.

A line that is not an event counts as invalid; the quarantine keeps its number and text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from sluice.pipeline.core.errors import DataError
from sluice.pipeline.sources.tables.rules.field import (
    Field,
    FieldValues,
    TableChunk,
    TableDefaults,
    ValuesByField,
    named_once,
)
from sluice.pipeline.sources.tables.rules.mapping import ColumnMapping
from sluice.pipeline.sources.tables.source import TableSource

from .cells import lists_in, looks_like, numbers_in
from .lines import Record, open_text, read_records

#: Time between bunch crossings at the LHC, ns.
CROSSING_NS = 25
#: Names of columns whose numbers are hexadecimal: words of the links of a chip.
_WORDS = re.compile(r"[RT]X_DATA_\d+")
#: Columns of the two tables of wafers, if the graph names none, and the number of their entries.
_WAFERS = (
    ("words", ColumnMapping(from_="RX_DATA", form="uint32[12]", unit="link words"), 12),
    ("charge", ColumnMapping(from_="CALQ", form="float32[48]", unit="ADC"), 48),
)
#: Lines that show what a column holds, and lines that are read at once.
_SAMPLE_LINES, _MAX_LINES = 100, 4096


class CsvTable:
    """One open file; the number of its events is known only at its end."""

    def __init__(self, path: Path) -> None:
        with open_text(path) as file:
            records = read_records(file)
            self._header = _header(next(records, None), path)
            sample = [record.cells for record in islice(records, _SAMPLE_LINES)]
        self.fields = named_once(
            [
                _field(name, _column(sample, place))
                for place, name in enumerate(self._header)
                if name
            ]
        )
        self._path = path
        self.defaults = _defaults(self.fields)

    def check(self, fields: Sequence[Field]) -> None:
        """Do nothing: a value that is missing makes its event invalid."""

    def chunks(self, fields: Sequence[Field], max_events: int) -> Iterator[TableChunk]:
        """Yield the lines, those that are not events included."""
        with open_text(self._path) as file:
            records = read_records(file)
            next(records)
            while lines := list(islice(records, min(max_events, _MAX_LINES))):
                yield self._chunk(fields, lines)

    def storage(self, field: Field) -> str:
        """Return nothing: there is one way to store a column."""
        return ""

    def close(self) -> None:
        """Do nothing: the file is open while it is read."""

    def _chunk(self, fields: Sequence[Field], records: list[Record]) -> TableChunk:
        refused = {row: reason for row, one in enumerate(records) if (reason := self._refusal(one))}
        values: ValuesByField = {}
        invalid = refused
        for field in fields:
            place = self._header.index(field.name)
            cells = ["" if row in refused else one.cells[place] for row, one in enumerate(records)]
            values[field], reasons = _values(field, cells)
            invalid = {row: f"{field.name}: {why}" for row, why in reasons.items()} | invalid
        lines = [(record.line, record.text) for record in records]
        return TableChunk(events=len(records), values=values, invalid=invalid, lines=lines)

    def _refusal(self, record: Record) -> str:
        """Return why a line is no event; empty if it has as many cells as the header."""
        expected = f"expected {len(self._header)} fields"
        if record.problem:
            return f"{expected}, {record.problem}"
        if len(record.cells) == len(self._header):
            return ""
        got = f"got {len(record.cells)}" if record.text.strip() else "got an empty line"
        return f"{expected}, {got}"


def _values(field: Field, cells: list[str]) -> tuple[FieldValues, dict[int, str]]:
    """Return the numbers of a column's cells, and the rows with a cell that has none."""
    offsets = None
    if field.ragged:
        values, offsets, reasons = lists_in(cells, field.dtype)
    else:
        hexadecimal = _WORDS.fullmatch(field.name) is not None
        values, reasons = numbers_in(cells, field.dtype, hexadecimal=hexadecimal)
    nulls = np.isin(np.arange(len(cells)), list(reasons)) if reasons else None
    return FieldValues(values, offsets, nulls), reasons


def _header(record: Record | None, path: Path) -> tuple[str, ...]:
    """Return the names of the columns; empty for a column without one, such as an index."""
    if record is None:
        raise DataError(f"{path}: line 1: expected a header with the names of columns, got nothing")
    names = tuple(cell.strip() for cell in record.cells)
    at = f"{path}: line {record.line}: expected a header with the names of columns"
    if record.problem or not any(names) or any("\0" in name for name in names):
        raise DataError(f"{at}, got {record.text[:80]!r}")
    if all(looks_like(name) == "number" for name in names if name):
        hint = "write the names into the first line; a line that begins with # is a comment"
        raise DataError(f"{at}, got numbers: {record.text[:80]!r}", hint)
    separator = re.search(r"[;\t|]|\w +\w+ +\w", record.text)
    if len(names) == 1 and separator:
        hint = "write the file with commas between the columns"
        raise DataError(f"{at}, separated by commas, got {record.text[:80]!r}", hint)
    return names


def _column(sample: list[list[str]], place: int) -> list[str]:
    return [cells[place].strip() for cells in sample if place < len(cells)]


def _field(name: str, cells: list[str]) -> Field:
    """Return the field of a column, by the first cells of it."""
    kinds = {looks_like(cell) for cell in cells if cell}
    if kinds == {"text"} and not _WORDS.fullmatch(name):
        return Field(name=name, events=None, trouble="text", text=True)
    return Field(name=name, events=None, dtype="float64", ragged="list" in kinds, text=True)


def _defaults(fields: dict[str, Field]) -> TableDefaults:
    """Return the columns of a table of wafers; all columns of numbers for other tables."""
    for name, mapping, entries in _WAFERS:
        if all(f"{mapping.from_}_{i}" in fields for i in range(entries)):
            return TableDefaults(columns={name: mapping}, event_ns=CROSSING_NS)
    return TableDefaults()


class CsvSource(TableSource):
    """Reads CSV files; the number of the line, from 0, is the event id if there is none."""

    def open_table(self, path: Path) -> CsvTable:
        """Open a file."""
        return CsvTable(path)
