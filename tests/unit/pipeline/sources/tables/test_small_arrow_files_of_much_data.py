"""A compressed Arrow file of another program is bounded before it is unpacked."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sluice.pipeline.core import arrow_message
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.sources.tables.arrow import ArrowTable

ROWS = 200_000


@pytest.fixture(autouse=True)
def small_limit(monkeypatch):
    monkeypatch.setattr(arrow_message, "MAX_UNPACKED_BYTES", 1 << 20)


def table_of(rows, *, text=False):
    columns = {"event_id": np.zeros(rows, np.int64), "x": np.zeros(rows)}
    if text:  # one word, as long as many: the dictionary is what unpacks to much
        columns["name"] = pa.array(["x" * (4 << 20)] * rows).dictionary_encode()
    return pa.table(columns)


@pytest.mark.parametrize("form", ["stream", "file"])
@pytest.mark.parametrize("table", [table_of(ROWS), table_of(3, text=True)], ids=["rows", "words"])
def test_what_unpacks_to_too_much_is_refused(tmp_path, form, table):
    path = tmp_path / "a.arrow"
    new = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with new(str(path), table.schema, options=options) as writer:
        writer.write_table(table)
    opened = ArrowTable(path)
    pool, before = pa.default_memory_pool(), pa.default_memory_pool().bytes_allocated()
    with pytest.raises(DataError, match="damaged at event 0: record batch: expected at most"):
        list(opened.chunks(list(opened.fields.values()), 1000))
    assert pool.bytes_allocated() - before < 1 << 20
    opened.close()


@pytest.mark.parametrize("form", ["stream", "file"])
def test_what_is_small_enough_is_read(tmp_path, form):
    path = tmp_path / "a.arrow"
    new = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    table = table_of(5_000)
    with new(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=1_500)
    opened = ArrowTable(path)
    chunks = list(opened.chunks(list(opened.fields.values()), 1000))
    assert sum(chunk.events for chunk in chunks) == 5_000
    opened.close()
