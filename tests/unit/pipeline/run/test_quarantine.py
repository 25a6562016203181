"""What is refused is kept with its reason and its bytes, and can be read by anything."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sluice.pipeline.core.batch import EventBatch, Flag, Outcome
from sluice.pipeline.core.schema import EVENT_ID, Column, Schema
from sluice.pipeline.run import quarantine as module
from sluice.pipeline.run.quarantine import Quarantine
from sluice.pipeline.sources.base import Rejected
from sluice.pipeline.transport.codec import Codec

SCHEMA = Schema((EVENT_ID, Column("charge", "float32", (3,))))


def batch_of(events):
    charge = np.arange(events * 3, dtype=np.float32).reshape(events, 3)
    return EventBatch({"event_id": np.arange(events, dtype=np.uint64) + 7, "charge": charge},
                      events, seq=4)  # fmt: skip


def read(path):
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_stream(file).read_all()


def test_events_come_back_from_their_bytes(tmp_path):
    path = tmp_path / "deep" / "q.arrows"
    kept = Quarantine(path, SCHEMA)
    batch = batch_of(5)
    kept.add_flagged(Flag("normalise", "charge is negative", Outcome.INVALID, [1, 3]), batch)
    kept.add_flagged(Flag("trap", "ArithmeticError: sprung", Outcome.FAILED, [4]), batch)
    kept.add_rejected("source", Rejected("t.csv: line 9", "expected 12 fields, got 1", b"rubbish"))
    kept.close()
    table = read(path).to_pydict()
    assert table["event_id"] == [8, 10, 11, None]
    assert table["outcome"] == ["invalid", "invalid", "failed", "invalid"]
    assert table["stage"] == ["normalise", "normalise", "trap", "source"]
    assert table["where"][0] == "batch 4, row 1"
    assert table["payload"][3] == b"rubbish"
    for payload, row in zip(table["payload"][:3], (1, 3, 4), strict=True):
        (event,) = Codec(SCHEMA).unpack(memoryview(payload), 1, 0)["charge"]
        np.testing.assert_array_equal(event, batch["charge"][row])
    assert kept.describe() == {
        "path": str(path), "rows": 4, "error": None,
        "reasons": {"charge is negative": 2, "ArithmeticError: sprung": 1,
                    "expected 12 fields, got 1": 1},
    }  # fmt: skip


def test_without_a_path_reasons_are_counted_all_the_same():
    kept = Quarantine(None, SCHEMA)
    kept.add_flagged(Flag("s", "r", Outcome.INVALID, [0, 1]), batch_of(3))
    kept.add_rejected("source", Rejected("here", "r", b"", events=10))
    kept.close()
    assert kept.describe() == {"path": None, "rows": 0, "reasons": {"r": 12}, "error": None}


def test_no_file_is_made_where_nothing_is_refused(tmp_path):
    kept = Quarantine(tmp_path / "q.arrows", SCHEMA)
    kept.close()
    assert list(tmp_path.iterdir()) == []


def test_rows_and_reasons_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_ROWS", 5)
    kept = Quarantine(tmp_path / "q.arrows", SCHEMA)
    for i in range(300):
        kept.add_flagged(Flag("s", f"reason {i}", Outcome.INVALID, [0, 1]), batch_of(2))
    kept.close()
    assert read(tmp_path / "q.arrows").num_rows <= 6
    described = kept.describe()
    assert sum(described["reasons"].values()) == 600
    assert len(described["reasons"]) <= 101


@pytest.mark.parametrize("path", ["/dev/full", "/proc/nowhere/q.arrows"])
def test_a_full_disk_is_reported_and_ends_nothing(path):
    from pathlib import Path

    kept = Quarantine(Path(path), SCHEMA)
    for _ in range(3):
        kept.add_flagged(Flag("s", "r", Outcome.INVALID, [0]), batch_of(1))
    kept.close()
    described = kept.describe()
    assert described["error"]
    assert described["reasons"] == {"r": 3}
