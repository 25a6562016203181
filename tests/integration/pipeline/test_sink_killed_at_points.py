"""The sink is killed between the write of a batch and its ACK, and just before a write."""

from __future__ import annotations

COLUMNS = ["event_id", "packed", "sum_q", "score", "outcome", "decision", "batch_seq", "epoch",
           "prescale"]  # fmt: skip
EVENTS, BATCH = 2000, 100


def test_what_is_written_and_not_acknowledged_is_neither_lost_nor_doubled(
    sluice, make_graph, make_recording, tmp_path, load_report, assert_same_recording
):
    """Killed after the first and the last batch was written, and before and after one between."""
    source = make_recording(tmp_path / "w.arrows", EVENTS)
    points = {"after": [0, 11, EVENTS // BATCH - 1], "before": [10]}
    kinds = {"quiet": {}, "killed": points}
    for name, engine in (("quiet", "inline"), ("killed", "distributed")):
        sink = {"use": "test.killed", "keep": "all", "columns": COLUMNS, "marks": str(tmp_path),
                "path": str(tmp_path / f"{name}.arrows"), **kinds[name]}  # fmt: skip
        graph = make_graph(name, sink=sink, graph={"batch_events": BATCH})
        report = tmp_path / f"{name}.json"
        done = sluice("replay", source, "--graph", graph, "--engine", engine, "--report", report)
        assert done.code == 0, done
    reports = {name: load_report(tmp_path / f"{name}.json") for name in kinds}
    assert reports["killed"]["restarts"] == {"sink": 4}
    assert reports["killed"]["events"] == reports["quiet"]["events"]
    assert reports["killed"]["paths"] == reports["quiet"]["paths"]
    assert reports["killed"]["events"]["failed"] == 0
    recordings = (tmp_path / f"{name}.arrows" for name in ("quiet", "killed"))
    assert assert_same_recording(*recordings) == EVENTS
