"""Lines of CSV files: quoted cells, comments, empty lines, and lines without an end."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

from msgspec import Struct

from sluice.pipeline.core.errors import DataError
from sluice.pipeline.sources.tables.formats import require_known

#: Maximum length of a line, characters, and lines that a quoted cell may go on for.
_MAX_CHARACTERS, _MAX_QUOTED_LINES = 1 << 24, 100
#: Empty lines in a row that are kept until it is known whether the file ends with them.
_MAX_EMPTY_LINES = 1000


class Record(Struct, frozen=True):
    """One line, or several that a quoted cell joins: number of the first, text and cells.

    `problem` says why the line has no cells; empty if it has.
    """

    line: int
    text: str
    cells: list[str]
    problem: str = ""


def open_text(path: Path) -> TextIO:
    """Open a file of UTF-8 text, with or without a byte order mark, and with any line ends."""
    try:
        with path.open("rb") as file:
            require_known(path, file.read(16))
        return path.open(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: cannot open: {error.strerror}") from error


def read_records(file: TextIO) -> Iterator[Record]:
    """Yield the lines of a file; comments, and empty lines at its end, are left out."""
    empty: list[Record] = []
    for record in _joined(_lines(file)):
        if record.text.startswith("#"):
            continue
        if not record.text.strip():
            empty.append(record)
            if len(empty) <= _MAX_EMPTY_LINES:
                continue
        yield from empty
        if not empty or empty[-1] is not record:
            yield record
        empty = []


def _lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line; of a line that is too long the beginning."""
    number = 0
    while text := file.readline(_MAX_CHARACTERS):
        number += 1
        rest = text
        while len(rest) == _MAX_CHARACTERS and not rest.endswith("\n"):
            rest = file.readline(_MAX_CHARACTERS)
        yield number, text.rstrip("\n")


def _joined(lines: Iterator[tuple[int, str]]) -> Iterator[Record]:
    """Yield records; a cell that is quoted may go on for some lines.

    If its quote is not closed, only the line in which it opens is no event.
    """
    ahead: list[tuple[int, str]] = []
    while ahead or (ahead := list(islice(lines, 1))):
        number, text = ahead[0]
        taken = 1
        while _is_open(text) and taken < _MAX_QUOTED_LINES:
            if taken == len(ahead) and (line := next(lines, None)) is not None:
                ahead.append(line)
            if taken == len(ahead):
                break
            text += "\n" + ahead[taken][1]
            taken += 1
        if _is_open(text):
            yield Record(number, ahead[0][1], [], "got a quote that is not closed")
            taken = 1
        else:
            yield _split(number, text)
        ahead = ahead[taken:]


def _is_open(text: str) -> bool:
    return not text.startswith("#") and text.count('"') % 2 == 1


def _split(number: int, text: str) -> Record:
    if len(text) >= _MAX_CHARACTERS:  # its end was not read
        return Record(number, text, [], f"got a line of {_MAX_CHARACTERS:,} characters or more")
    if '"' not in text or text.startswith("#"):
        return Record(number, text, text.split(","))
    try:
        return Record(number, text, next(csv.reader([text], strict=True, skipinitialspace=True)))
    except csv.Error as error:
        return Record(number, text, [], f"got a wrong quote: {error}")
