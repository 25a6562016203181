"""The specification of the wire against the code that speaks it."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sluice.pipeline.core.batch import Flag, Outcome
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.journal import batch_record
from sluice.pipeline.transport import (
    batch_summary,
    codec,
    front_end_messages,
    protocol,
    run_messages,
)

Rows = Callable[[str], list[list[str]]]
Section = Callable[[Path, str], str]

_CODES = {"uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q", "int64": "q"}


@pytest.fixture(scope="module")
def page(root: Path) -> Path:
    return root / "docs" / "protocol.md"


def test_header_table(page: Path, section: Section, rows: Rows) -> None:
    table = rows(section(page, f"### Header: {protocol.HEADER_BYTES} bytes"))
    header = protocol.Header(
        int(protocol.Kind.RAW), run=2, source=3, seq=4, arg1=5, events=6, token=7, t_sent=8,
        arg2=9, length=10,
    )  # fmt: skip
    packed, _ = protocol.encode(header, bytes(10))
    expected = {"magic": b"SLCE", "version": protocol.VERSION, "reserved": 0, **header._asdict()}
    end = 0
    for offset, size, kind, field, *_ in table:
        assert int(offset) == end, field
        end += int(size)
        code = "<" + (f"{size}s" if kind == "bytes" else _CODES[kind])
        assert struct.calcsize(code) == int(size), field
        assert struct.unpack_from(code, packed, int(offset)) == (expected.pop(field),), field
    assert end == protocol.HEADER_BYTES == len(packed)
    assert not expected


def test_kinds_table(page: Path, section: Section, rows: Rows) -> None:
    table = rows(section(page, "### Kinds"))
    assert {row[1]: int(row[0]) for row in table if row[0]} == {
        k.name: int(k) for k in protocol.Kind
    }


def _message_classes() -> dict[str, type[Any]]:
    return {
        name: item for module in (front_end_messages, run_messages)
        for name, item in vars(module).items() if getattr(item, "__module__", "") == module.__name__
        and isinstance(item, type)
    }  # fmt: skip


def test_fields_table(page: Path, section: Section, rows: Rows) -> None:
    classes = _message_classes()
    described: dict[str, list[str]] = {}
    name = ""
    for row in rows(section(page, "### Fields")):
        name, field, place = row[0] or name, row[1], row[2]
        described.setdefault(name, []).append(field)
        where, bits = place.split(",")[0], re.search(r"bits? (\d+)", place)
        # Two values, so that the difference shows where the field lies and in which bits.
        given = dict.fromkeys(classes[name]._fields, 0) | {"kind": protocol.Kind.RAW}
        given = {key: value for key, value in given.items() if key in classes[name]._fields}
        low, high = (
            classes[name](**given | {field: value}).to_header()._asdict() for value in (0, 1)
        )
        if field == "length":  # `encode` writes the length of the payload
            assert where == "length"
            continue
        assert {key for key in low if low[key] != high[key]} == {where}, (name, field)
        difference = high[where] - low[where]
        assert difference == 1 << int(bits[1] if bits else 0), (name, field)
        assert field != "slot" or low[where] == 1
    assert described == {name: list(cls._fields) for name, cls in classes.items()}


def test_kinds_table_names_every_message(page: Path, section: Section, rows: Rows) -> None:
    kind, found = "", set()
    for row in rows(section(page, "### Kinds")):
        kind = row[1] or kind
        if row[3]:
            found.add((kind, row[3]))
    kinds = {name: [cls.__doc__.split(",")[0]] for name, cls in _message_classes().items()}
    assert kinds.pop("EventData") == ["DATA or RAW"]
    expected = {(kind, name) for name, kinds in kinds.items() for kind in kinds}
    assert found == expected | {("DATA", "EventData"), ("RAW", "EventData")}


def test_limits(page: Path, section: Section) -> None:
    text = section(page, "### Limits")
    assert "2^20 events" in text
    assert protocol.MAX_EVENTS == 2**20
    assert "2^28 payload bytes" in text
    assert protocol.MAX_BYTES == 2**28


def test_summary(page: Path, section: Section) -> None:
    summary = batch_summary.BatchSummary(
        bytes(8 * len(Outcome)), bytes(8 * 64), 1, [Flag("s", "r", 5, [0])], b"c"
    )
    parts = msgspec.msgpack.decode(batch_summary.pack_summary(summary))
    assert parts == [bytes(64), bytes(512), 1, [["s", "r", 5, [0]]], b"c"]
    names = ", ".join(outcome.name.lower() for outcome in Outcome)
    text = " ".join(section(page, "### Payloads").split())
    assert f"events by outcome (the bytes of {len(Outcome)} int64: {names})" in text


def test_raw_records_are_packed_in_the_order_of_the_columns() -> None:
    schema = Schema((EVENT_ID, T_EVENT, Column("words", "uint32", (12,))))
    record = codec.record_dtype(schema)
    assert record.names == ("event_id", "t_event", "words")
    assert record.itemsize == 8 + 8 + 48


def test_version_and_magic(page: Path) -> None:
    assert page.read_text().startswith(f"# The Sluice protocol, version {protocol.VERSION}\n")


def test_batch_record(page: Path, section: Section) -> None:
    text = " ".join(section(page, "### Payloads").split())
    record = batch_record.BATCH_RECORD_DTYPE
    names = [name for name in record.names or () if f"`{name}`" in text]
    assert names == list(record.names or ())
    assert record.itemsize == len(
        batch_record.pack_batch_record(1, np.arange(3, dtype="u8"), range(8), 2, 3)
    )
    (got,) = batch_record.unpack(
        batch_record.pack_batch_record(1, np.array([9, 8], "u8"), range(8), 7, 6)
    )
    assert got.tolist() == (1, 9, int(got["ids"]), 2, 1, 2, 3, 5, 6, 7, 6)
