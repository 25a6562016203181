"""Summary of a table of any format: its columns, what they hold, and a graph's source for it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from sluice.pipeline.config.plugins import load_class
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import Column
from sluice.pipeline.sources.prefetch import chunk_events
from sluice.pipeline.sources.tables.root import find_trees
from sluice.pipeline.sources.tables.rules.field import Field, FieldValues, Table
from sluice.pipeline.sources.tables.spans import one_line

#: Events of which the values are shown, and characters of each.
_FIRST_EVENTS, _FIRST_CHARACTERS = 3, 40


class ColumnSummary(Struct, kw_only=True):
    """Content of one column.

    Attributes
    ----------
    name, form
        Name in the file, and dtype and item shape; for a column that cannot be used its type.
    events, nulls
        Number of events, and of those without a value; None if they were not counted.
    first
        Values of the first events.
    storage
        How it is stored: chunks, filters, links.
    problem
        Why a graph cannot use it; empty if it can.
    """

    name: str
    form: str
    events: int | None = None
    nulls: int | None = None
    first: list[str] = []
    storage: str = ""
    problem: str = ""


class TableSummary(Struct, kw_only=True):
    """Content of a table.

    Attributes
    ----------
    path, format, table
        Path of the file, the source that reads it, and the name of the tree in a ROOT file.
    bytes, events
        Size of the file in bytes; number of events, None if its columns differ in it.
    columns
        Columns, also those that no graph can use.
    source
        The table ``[source]`` of a graph that reads the columns of most events, as TOML; empty if
        none can be used.
    damage
        Description of missing or damaged parts; None without any.
    """

    path: str
    format: str
    table: str
    bytes: int
    events: int | None
    columns: list[ColumnSummary]
    source: str
    damage: str | None


def summarise_tables(path: Path, use: str) -> list[TableSummary]:
    """Read a file to its end and return a summary of each table in it.

    Parameters
    ----------
    path
        Path of the file.
    use
        Name of the source that reads it.

    Raises
    ------
    DataError
        If it has no table, or is so damaged that its columns are lost.
    """
    trees = find_trees(path) if use == "root" else []
    return [_summarise(path, use, tree) for tree in trees or [""]]


def _summarise(path: Path, use: str, tree: str) -> TableSummary:
    options = {"path": str(path), **({"tree": tree} if tree else {})}
    cls = load_class("source", use, "inspect")
    table: Table = cls("inspect", msgspec.convert(options, cls.Options)).open_table(path)
    try:
        columns = {field.name: _column(table, field) for field in table.fields.values()}
        damage = _read(table, columns)
    finally:
        table.close()
    events = {column.events for column in columns.values()}
    return TableSummary(
        path=str(path), format=use, table=tree, bytes=path.stat().st_size,
        events=events.pop() if len(events) == 1 else None,
        columns=list(columns.values()), source=_source(options, use, table, columns), damage=damage,
    )  # fmt: skip


def _column(table: Table, field: Field) -> ColumnSummary:
    problem = f"no numbers: {field.trouble}" if field.trouble else ""
    form = f"{field.form} ({field.time_unit})" if field.time_unit else field.form
    found = ColumnSummary(name=field.name, form=form, events=field.events, problem=problem)
    try:
        found.storage = table.storage(field)
        if not problem:
            table.check([field])
    except DataError as error:
        found.problem = error.message
    except Exception as error:  # libraries raise any exception for invalid data
        found.problem = f"damaged: {one_line(error)}"
    return found


def _read(table: Table, columns: dict[str, ColumnSummary]) -> str | None:
    """Count events and nulls of the columns that can be read; return the damage found."""
    damage = None
    usable = [field for field in table.fields.values() if not columns[field.name].problem]
    for length in dict.fromkeys(field.events for field in usable):
        fields = [field for field in usable if field.events == length]
        counted = 0
        try:
            for chunk in table.chunks(fields, chunk_events(sum(f.item_bytes for f in fields))):
                for field in fields:
                    _add(columns[field.name], chunk.values[field], chunk.events, first=not counted)
                counted += chunk.events
        except DataError as error:
            damage = damage or error.message
        for field in fields if length is None else ():
            columns[field.name].events = counted
    return damage


def _add(column: ColumnSummary, values: FieldValues, events: int, *, first: bool) -> None:
    column.nulls = (column.nulls or 0) + (0 if values.nulls is None else int(values.nulls.sum()))
    if first:
        column.first = [_shown(values, row) for row in range(min(events, _FIRST_EVENTS))]


def _shown(values: FieldValues, row: int) -> str:
    if values.nulls is not None and values.nulls[row]:
        return values.null_name
    if values.offsets is not None:
        item: Any = values.values[values.offsets[row] : values.offsets[row + 1]]
    else:
        item = values.values[row]
    text = np.array2string(np.asarray(item), threshold=6, edgeitems=3, separator=", ")
    text = " ".join(text.split())
    return text if len(text) <= _FIRST_CHARACTERS else f"{text[: _FIRST_CHARACTERS - 1]}…"


def _source(
    options: dict[str, str], use: str, table: Table, columns: dict[str, ColumnSummary]
) -> str:
    """Return the source of a graph for the usable columns of the most common length."""
    usable = [field for field in table.fields.values() if not columns[field.name].problem]
    lists = dict(_lists(usable, table)) if use == "hdf5" else {}
    of_lists = {name for items, index in lists.items() for name in (items, index.name)}
    keys = _keys([field.name for field in usable])
    entries = [(f.events, _entry(f, keys[f.name], {})) for f in usable if f.name not in of_lists]
    for items, index in lists.items():
        field = msgspec.structs.replace(table.fields[items], ragged=True)
        entries.append((index.events, _entry(field, keys[items], {"ends": index.name})))
    if not entries:
        return ""
    lengths = Counter(events for events, _ in entries)
    common = max(lengths, key=lengths.__getitem__)
    head = ["[source]", f"use = {_quoted(use)}"]
    head += [f"{key} = {_quoted(value)}" for key, value in options.items()]
    return "\n".join(
        [
            *head,
            "",
            "[source.columns]",
            *(text for events, text in entries if events == common),
        ]
    )


def _lists(fields: Sequence[Field], table: Table) -> Iterator[tuple[str, Field]]:
    """Yield items and index of the lists of LEGEND's files, which are recognised by their names."""
    names = {field.name for field in fields}
    for name in sorted(names):
        index = name.removesuffix("flattened_data") + "cumulative_length"
        if name.endswith("flattened_data") and index in names:
            yield name, table.fields[index]


def _keys(names: Sequence[str]) -> dict[str, str]:
    """Return the key of each column in a graph: a word, or its name if others have that word."""
    words = [re.sub(r"\W+", "_", name.removesuffix("/flattened_data")).strip("_") for name in names]
    of_one = {word for word, columns in Counter(words).items() if word and columns == 1}
    return {name: word if word in of_one else name for name, word in zip(names, words, strict=True)}


def _quoted(text: str) -> str:
    """Return a text as TOML writes it: as JSON does, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", r"\u007f")


def _entry(field: Field, key: str, index: dict[str, str]) -> str:
    """Return the entry of a column: a spec, or a mapping if its key is not its name."""
    dtype = "uint8" if field.dtype == "bool" else field.dtype
    spec = Column("", dtype, (None, *field.shape) if field.ragged else field.shape).spec
    mapping = {} if key in ("event_id", "t_event") else {"form": spec}
    if key != field.name:
        mapping = {"from": field.name, **mapping}
    inner = ", ".join(f"{name} = {_quoted(value)}" for name, value in (mapping | index).items())
    written = key if re.fullmatch(r"[\w-]+", key, re.ASCII) else _quoted(key)
    value = f"{{ {inner} }}" if set(mapping | index) != {"form"} else f'"{spec}"'
    return f"{written} = {value}"
