"""Tables in memory: by the rules for tables in files."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sluice.pipeline.core.errors import DataError
from sluice.pipeline.sources.memory import MemorySource, shared


def read(data, names=None, max_events=2):
    """Return the columns of all events, and what was rejected."""
    with shared(data) as number:
        source = MemorySource("memory", MemorySource.Options(number))
        source.open()
        if names is not None:
            source.select_columns(names, max_events)
        batches, rejected = [], []
        while (batch := source.read(max_events)) is not None:
            batches.append(batch)
        rejected += source.losses().invalid
    found = {name for batch in batches for name in batch.columns}
    return {n: [v for b in batches for v in b[n].tolist()] for n in found}, rejected


TABLE = pa.table(
    {
        "x": pa.array([1.0, None, 3.0, 4.0, 5.0], pa.float32()),
        "label": ["a", "b", None, "d", "e"],
        "hits": pa.array([[1], [2], [3, 4], None, []], pa.list_(pa.int32())),
        "jet": pa.array([{"pt": float(n)} for n in range(5)]),
        "event_id": pa.array([9, 8, 7, 6, 5], pa.int16()),
    }
)


@pytest.mark.parametrize("table", [TABLE, TABLE.combine_chunks().to_batches()[0]])
def test_a_null_costs_its_event_only_where_it_is_read(table):
    got, rejected = read(table, ("x", "event_id"))
    assert (got["x"], got["event_id"]) == ([1, 3, 4, 5], [9, 7, 6, 5])
    assert [(bad.where, bad.reason) for bad in rejected] == [
        ("memory: event 1", "x: expected a value, got null")
    ]
    got, rejected = read(table, ("jet.pt",))
    assert (got["jet.pt"], rejected) == ([0, 1, 2, 3, 4], [])
    got, rejected = read(table)
    assert (got["event_id"], got["hits"]) == ([9, 7, 5], [[1], [3, 4], []])
    assert [bad.where for bad in rejected] == ["memory: event 1", "memory: event 3"]


def test_events_that_are_all_rejected():
    got, rejected = read(pa.table({"x": pa.nulls(3, pa.int32())}))
    assert (got, len(rejected)) == ({}, 3)


@pytest.mark.parametrize("kind", ["i2", "i8", "u4", "u8", ">i4"])
def test_ids_of_any_integer_type(kind):
    ids = np.array([3, 1, 2], kind)
    for data in ({"event_id": ids, "x": np.ones(3)}, pa.table({"event_id": ids.astype(kind[-2:])})):
        assert read(data)[0]["event_id"] == [3, 1, 2]


def test_ids_that_are_none_are_refused():
    for ids in (np.array([1.0, 2.0]), np.array([1, -2])):
        with pytest.raises(DataError, match="column 'event_id': expected"):
            read({"event_id": ids, "x": np.ones(2)})
    with pytest.raises(DataError, match="column 'event_id': expected integers, got float64"):
        read(pa.table({"event_id": [1.0, 2.0], "x": [1, 2]}))
