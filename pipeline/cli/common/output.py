"""Results of commands on stdout: JSON, or tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Column, Table


def print_json(value: Any, *, indent: bool = False) -> None:
    """Print a struct or plain values as JSON, on one line unless `indent`."""
    import msgspec

    encoded = msgspec.json.encode(value)
    typer.echo((msgspec.json.format(encoded, indent=2) if indent else encoded).decode())


def table(columns: Iterable[str | Column], rows: Iterable[Iterable[str]]) -> Table:
    """Return a table with a head and rows of text."""
    from rich.table import Table

    made = Table(*columns)
    for row in rows:
        made.add_row(*row)
    return made


def specs(columns: Iterable[Any]) -> str:
    """Return names, dtypes and item shapes of columns on one line."""
    return ", ".join(f"{column.name} {column.spec}" for column in columns)
