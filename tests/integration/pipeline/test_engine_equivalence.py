"""The engines give the same decisions, bit for bit, for the same batches."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

ENGINES = {
    "inline": ("--engine", "inline"),
    "one worker": ("--workers", "1"),
    "two workers": ("--workers", "2"),
}
COLUMNS = ["event_id", "t_event", "packed", "latent_q", "sum_q", "score", "outcome", "decision",
           "batch_seq", "batch_events", "rung", "epoch", "prescale"]  # fmt: skip


@pytest.fixture
def runs(sluice, wafers, make_graph, tmp_path, load_report):
    """Replay the same wafers through each engine, keeping all events with all columns."""
    sink = {"use": "recording", "keep": "all", "columns": COLUMNS}
    graph = make_graph(graph={"batch_events": 777, "name": "agree"}, sink=sink)
    done = {}
    for name, options in ENGINES.items():
        report, out = tmp_path / f"{name}.json", tmp_path / f"{name}.arrows"
        result = sluice(
            "replay", wafers, "--graph", graph, "--report", report, "--out", out, *options
        )
        assert result.code == 0, result
        done[name] = (load_report(report), out)
    return done


def test_decisions_and_recordings_are_bit_identical(runs, assert_same_recording):
    inline_report, inline = runs["inline"]
    for name in ("one worker", "two workers"):
        report, out = runs[name]
        assert assert_same_recording(inline, out) == 20_000
        assert report["events"] == inline_report["events"]
        assert report["paths"] == inline_report["paths"]
        assert report["compression"] == inline_report["compression"]
        seen, seen_inline = report["emd"], inline_report["emd"]
        assert seen["n"] + seen["dropped"] == seen_inline["n"] + seen_inline["dropped"] > 0
    with pa.OSFile(str(inline)) as file:
        table = pa.ipc.open_stream(file).read_all()
    decisions = table["decision"].to_numpy()
    outcomes = table["outcome"].to_numpy()
    counts = inline_report["events"]
    assert (outcomes == 1).sum() == counts["accepted"] == (decisions != 0).sum() > 0
    assert (outcomes == 2).sum() == counts["rejected"] > 0
    assert (outcomes == 3).sum() == counts["prescaled"] > 0
    for bit, (path, number) in enumerate(inline_report["paths"].items()):
        assert ((decisions >> bit) & 1).sum() == number, path


def test_batches_spread_over_both_workers_and_stay_in_order(
    launch, http, make_graph, wafers, tmp_path, load_report
):
    delay = {"use": "test.delay", "name": "slow", "seconds": 0.1}
    sink = {"use": "recording", "keep": "all", "columns": ["event_id"]}
    graph = make_graph(first=[delay], sink=sink, graph={"batch_events": 400})
    report, out = tmp_path / "r.json", tmp_path / "o.arrows"
    listen = f"127.0.0.1:{http.port}"
    command = launch(
        "replay", wafers, "--graph", graph, "--workers", 2, "--report", report, "--out", out,
        "--http", listen,
    )  # fmt: skip
    http.settled(command, 400)
    assert len(command.workers()) == 2
    assert len(command.workers("sink")) == 1
    status = json.loads(http.get("/status")[1])
    assert status["state"] == "RUNNING"
    done = command.finish()
    assert done.code == 0, done
    result = load_report(report)
    assert result["stages"]["slow"]["batches"] == 50
    # Two workers sleep at the same time: the run is shorter than one worker's sleep alone.
    assert result["seconds"]["wall"] < 50 * 0.1 * 0.95
    with pa.OSFile(str(out)) as file:
        ids = pa.ipc.open_stream(file).read_all()["event_id"].to_numpy()
    assert ids.tolist() == list(range(1, 20_001))
