"""Real words and real charges through the shipped graph."""

from __future__ import annotations

import pyarrow as pa

from sluice.pipeline.core.schema import DECISION_RECORD_COLUMNS


def test_real_chip_words(data_dir, sluice, tmp_path, load_report):
    report, out = tmp_path / "r.json", tmp_path / "o.arrows"
    done = sluice(
        "replay", data_dir / "econt" / "testInput.csv", "--graph", "hgcal",
        "--report", report, "--out", out,
    )  # fmt: skip
    assert done.code == 0, done
    result = load_report(report)
    assert result["events"]["offered"] == 3564
    assert result["events"]["invalid"] == 0
    assert result["bypassed"] == []
    with pa.OSFile(str(out)) as file:
        table = pa.ipc.open_stream(file).read_all()
    assert table.num_rows == result["events"]["accepted"] == result["output"]["events"]
    assert table.schema.names[:6] == [
        "event_id", "t_event", "packed", "sum_q", "score", "decision"
    ]  # fmt: skip
    assert set(table.schema.names[6:]) == {column.name for column in DECISION_RECORD_COLUMNS}
    ids = table["event_id"].to_numpy()
    assert (ids[1:] > ids[:-1]).all()
    assert (table["t_event"].to_numpy() == ids * 25).all()


def test_real_charges(data_dir, sluice, tmp_path, load_report):
    report = tmp_path / "r.json"
    path = data_dir / "calq" / "CALQ_output.csv"
    done = sluice("replay", path, "--graph", "hgcal", "--report", report)
    assert done.code == 0, done
    result = load_report(report)
    with path.open() as file:
        lines = sum(1 for _ in file) - 1
    assert result["events"]["offered"] == lines
    assert result["bypassed"] == ["unpack"]
    assert result["emd"]["n"] > 0
    assert 0 < result["emd"]["mean"] < 10
    decided = result["events"]["offered"] - result["events"]["invalid"]
    assert result["compression"]["bits_in"] == decided * 48 * 7
    assert 0 < result["compression"]["bits_out"] < result["compression"]["bits_in"]
