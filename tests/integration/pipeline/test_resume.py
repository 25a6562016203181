"""An engine that is killed goes on behind its last commit: no event lost, none doubled."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

COLUMNS = ["event_id", "packed", "sum_q", "score", "outcome", "decision"]
SINK = {"use": "recording", "keep": "all", "columns": COLUMNS}


@pytest.fixture
def graph(make_graph, tmp_path):
    """Small batches that take 10 ms each, in a graph that is the same in each attempt."""
    delay = {"use": "test.delay", "name": "slow", "seconds": 0.01}
    return make_graph("slow", first=[delay], sink=SINK, graph={"batch_events": 100})


@pytest.fixture
def kill(launch, http, remove_run_folders):
    """Start a run and kill its engine, and nothing else, once it has settled some events."""

    def run(settled, *arguments):
        command = launch(*arguments, "--http", f"127.0.0.1:{http.port}")
        http.settled(command, settled)
        command.children()
        command.signal(signal.SIGKILL)
        command.finish()
        remove_run_folders()

    return run


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["distributed", "inline"])
def test_killed_twice_and_resumed(
    engine, kill, sluice, graph, make_graph, wafers, tmp_path, load_report, assert_same_recording
):
    out, report = tmp_path / "o.arrows", tmp_path / "r.json"
    arguments = ["replay", wafers, "--graph", graph, "--engine", engine, "--out", out]
    kill(1_000, *arguments, "--run", 7)
    kill(4_000, *arguments, "--resume")
    done = sluice(*arguments, "--resume", "--report", report, timeout=120)
    assert done.code == 0, done
    assert "by previous attempts" in done.out
    result = load_report(report)
    assert result["run"] == 7
    assert result["closed"]
    assert 4_000 <= result["resumed"]["events"] < 20_000
    assert result["resumed"]["batches"] == result["resumed"]["events"] // 100
    assert result["events"]["offered"] == 20_000
    assert result["events"]["failed"] == result["events"]["lost"] == 0
    assert result["output"]["events"] == 20_000
    calm = make_graph("calm", sink=SINK, graph={"batch_events": 100})
    quiet = sluice(
        "replay", wafers, "--graph", calm, "--engine", "inline",
        "--report", tmp_path / "quiet.json", "--out", tmp_path / "quiet.arrows",
    )  # fmt: skip
    assert quiet.code == 0, quiet
    undisturbed = load_report(tmp_path / "quiet.json")
    assert undisturbed["events"] == result["events"]
    assert undisturbed["paths"] == result["paths"]
    assert assert_same_recording(out, tmp_path / "quiet.arrows") == 20_000
    inspected = sluice("inspect", out)
    assert inspected.code == 0, inspected
    before = out.read_bytes()
    again = sluice(*arguments, "--resume", "--report", report)  # as after a kill before the report
    assert again.code == 0, again
    remade = load_report(report)
    for key in ("run", "closed", "events", "paths", "output"):
        assert remade[key] == result[key], key
    assert out.read_bytes() == before


@pytest.mark.long
def test_what_cannot_be_resumed_is_refused(
    kill, sluice, graph, make_graph, wafers, tmp_path, make_recording
):
    out = tmp_path / "o.arrows"
    arguments = ["replay", wafers, "--graph", graph, "--out", out]
    nothing = sluice(*arguments, "--resume")
    assert nothing.code == 3, nothing
    assert "o.arrows: cannot open" in nothing.err
    kill(500, *arguments)
    before = out.read_bytes()
    other = make_graph("other", sink=SINK, graph={"batch_events": 200})
    differs = sluice("replay", wafers, "--graph", other, "--out", out, "--resume")
    assert differs.code == 2, differs
    assert "it began with another [graph], [stages]" in differs.err
    shorter = shutil.move(wafers, tmp_path / "away.arrows")
    make_recording(Path(wafers), 100)
    try:
        short = sluice(*arguments, "--resume")
    finally:
        shutil.move(shorter, wafers)
    assert short.code == 3, short
    assert "got 100" in short.err
    assert out.read_bytes()[: len(before)] == before


def test_a_live_source_begins_a_new_run(sluice, make_graph, tmp_path):
    graph = make_graph("live", source={"listen": f"ipc://{tmp_path}/in"})
    done = sluice("run", graph, "--resume", "--run", 3, "--http", "127.0.0.1:0")
    assert done.code == 2, done
    assert "expected a source that reads a file" in done.err


@pytest.mark.long
def test_two_runs_do_not_write_one_recording(launch, http, sluice, graph, wafers, tmp_path):
    out = tmp_path / "o.arrows"
    first = launch(
        "replay", wafers, "--graph", graph, "--out", out, "--http", f"127.0.0.1:{http.port}",
        "--rate", 200,
    )  # fmt: skip
    http.settled(first, 50)
    again = ("replay", wafers, "--graph", "hgcal", "--engine", "inline", "--out", out)
    for options, words in (([], "exists already"), (["--force"], "another process writes to it")):
        second = sluice(*again, *options)
        assert second.code == 2, second
        assert words in second.err
    first.signal(signal.SIGTERM)
    done = first.finish()
    assert done.code == 9, done
