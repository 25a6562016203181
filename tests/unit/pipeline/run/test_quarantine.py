"""What is refused is kept with its reason and its bytes, and can be read by anything."""

from __future__ import annotations

import errno
from io import FileIO

import numpy as np
import pyarrow as pa
import pytest

from sluice.pipeline.core.batch import EventBatch, Flag, Outcome
from sluice.pipeline.core.schema import EVENT_ID, Column, Schema
from sluice.pipeline.run import quarantine as module
from sluice.pipeline.run import quarantine_file
from sluice.pipeline.run import quarantine_limits as limits
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
        "path": str(path), "rows": 4, "rows_not_kept": 0, "error": None,
        "reasons": {"charge is negative": 2, "ArithmeticError: sprung": 1,
                    "expected 12 fields, got 1": 1},
    }  # fmt: skip


def test_without_a_path_reasons_are_counted_all_the_same():
    kept = Quarantine(None, SCHEMA)
    kept.add_flagged(Flag("s", "r", Outcome.INVALID, [0, 1]), batch_of(3))
    kept.add_rejected("source", Rejected("here", "r", b"", events=10))
    kept.close()
    assert kept.describe() == {
        "path": None, "rows": 0, "rows_not_kept": 0, "reasons": {"r": 12}, "error": None
    }  # fmt: skip


def test_no_file_is_made_where_nothing_is_refused(tmp_path):
    kept = Quarantine(tmp_path / "q.arrows", SCHEMA)
    kept.close()
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_quarantine_is_replaced_whole(tmp_path):
    path = tmp_path / "q.arrows"
    for where in ("earlier", "now"):
        kept = Quarantine(path, SCHEMA, force=True)
        kept.add_rejected("source", Rejected(where, "r", b"bytes"))
        kept.close()
    assert read(path).to_pydict()["where"] == ["now"]
    assert list(tmp_path.iterdir()) == [path]


def test_the_first_rows_of_each_reason_are_kept_then_a_rate(tmp_path, monkeypatch):
    """Junk of one reason does not keep another reason from its first rows."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(limits, "FIRST_ROWS", 3)
    kept = Quarantine(tmp_path / "q.arrows", SCHEMA)
    junk = bytes(limits.RATE_BYTES_PER_S)  # a row a second
    for number in range(50):
        now[0] += 0.1
        kept.add_rejected("source", Rejected(str(number), "wrong length", junk))
    kept.add_flagged(Flag("s", "late reason", Outcome.INVALID, list(range(5))), batch_of(5))
    kept.close()
    table = read(tmp_path / "q.arrows").to_pydict()
    assert table["where"] == ["0", "1", "2", "3", "14", "25", "36", "47",
                              "batch 4, row 0", "batch 4, row 1", "batch 4, row 2"]  # fmt: skip
    described = kept.describe()
    assert described["reasons"] == {"wrong length": 50, "late reason": 5}
    assert (described["rows"], described["rows_not_kept"]) == (11, 44)


def test_the_file_is_bounded_in_bytes_whatever_the_time_and_the_reasons(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(limits, "MAX_BYTES", 1 << 20)
    kept = Quarantine(tmp_path / "q.arrows", SCHEMA)
    for number in range(400):
        now[0] += 3600.0
        kept.add_rejected("source", Rejected("x", f"reason {number % 150}", bytes(50_000)))
    kept.close()
    assert (1 << 20) * 0.9 < (tmp_path / "q.arrows").stat().st_size < (1 << 20) + 100_000
    described = kept.describe()
    assert described["rows"] == read(tmp_path / "q.arrows").num_rows
    assert described["rows"] + described["rows_not_kept"] == 400
    assert sum(described["reasons"].values()) == 400
    assert len(described["reasons"]) <= 101


def test_a_reason_of_any_length_is_shortened(tmp_path):
    kept = Quarantine(tmp_path / "q.arrows", SCHEMA)
    kept.add_rejected("source", Rejected("here", "x" * 10**6, b""))
    kept.close()
    ((reason, events),) = kept.describe()["reasons"].items()
    assert (len(reason), events) == (499, 1)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_after_a_full_disk_it_goes_on_and_the_file_is_whole(tmp_path, monkeypatch, number):
    now, full = [0.0], [False]

    class Disk(FileIO):
        def write(self, data):
            if full[0] and len(data) > 8:
                super().write(data[:8])  # a part of it still fits
                raise OSError(number, "cannot be written")
            return super().write(data)

    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(quarantine_file, "FileIO", Disk)
    kept = Quarantine(tmp_path / "q.arrows", SCHEMA)
    for second in range(40):
        now[0], full[0] = float(second), second < 3 or 10 <= second < 22
        kept.add_rejected("source", Rejected(str(second), "r", b"bytes"))
    kept.close()
    got = [int(where) for where in read(tmp_path / "q.arrows").to_pydict()["where"]]
    assert got == [*range(5, 10), *range(25, 40)]
    described = kept.describe()
    assert (described["rows"], described["rows_not_kept"]) == (20, 20)
    assert described["reasons"] == {"r": 40}
    assert "cannot be written" in described["error"]


@pytest.mark.parametrize("path", ["/dev/full", "/proc/nowhere/q.arrows"])
def test_a_full_disk_is_reported_and_ends_nothing(path):
    from pathlib import Path

    kept = Quarantine(Path(path), SCHEMA)
    for _ in range(3):
        kept.add_flagged(Flag("s", "r", Outcome.INVALID, [0]), batch_of(1))
    kept.close()
    described = kept.describe()
    assert described["error"]
    assert (described["rows"], described["rows_not_kept"]) == (0, 3)
    assert described["reasons"] == {"r": 3}
