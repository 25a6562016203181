"""Segments of a chain with workers of their own: same decisions, crashes, a swap, a live run."""

from __future__ import annotations

import json

import pytest

COLUMNS = ["event_id", "packed", "sum_q", "score", "outcome", "decision"]
SINK = {"use": "recording", "keep": "all", "columns": COLUMNS}
FRONT, BACK = ["unpack", "normalise", "encode"], ["pack", "tag", "menu"]


@pytest.fixture
def chained(make_graph):
    """A graph of small batches: two workers up to the encoder, one behind it."""

    def make(seconds=0.0, batch_events=100, sink=SINK, **workers):
        delay = {"use": "test.delay", "name": "slow", "seconds": seconds}
        chain = [{"stages": ["slow", *FRONT], "compute": 2}, {"stages": BACK, "compute": 1}]
        return make_graph(
            f"chained-{seconds}", first=[delay], sink=sink, graph={"batch_events": batch_events},
            workers={"chain": chain, **workers},
        )  # fmt: skip

    return make


@pytest.fixture
def replay(launch, http, wafers, tmp_path):
    """Start a replay with pages, report and recording."""

    def start(graph, name, *more):
        return launch(
            "replay", wafers, "--graph", graph, "--report", tmp_path / f"{name}.json",
            "--out", tmp_path / f"{name}.arrows", "--http", f"127.0.0.1:{http.port}", *more,
        )  # fmt: skip

    return start


def worker(command, name):
    """Return the process of a worker by its name."""
    return next(one for one in command.workers() if f"/{name}.json" in " ".join(one.cmdline()))


def test_killing_a_worker_of_each_segment_and_the_sink_loses_nothing(
    replay, http, chained, tmp_path, load_report, assert_same_recording
):
    command = replay(chained(0.02), "chain")
    for settled, target in ((500, "compute-0"), (2000, "compute-2"), (4000, "sink")):
        http.settled(command, settled)
        if target == "sink":
            command.workers("sink")[0].kill()
        else:
            worker(command, target).kill()
    done = command.finish(90)
    assert done.code == 0, done
    report = load_report(tmp_path / "chain.json")
    assert report["restarts"] == {"compute-0": 1, "compute-2": 1, "sink": 1}
    assert report["protocol_errors"] == 0
    for never in ("lost", "failed", "shed", "invalid"):
        assert report["events"][never] == 0
    for stage in (*FRONT, *BACK):  # a batch that was processed twice counts twice
        assert 20_000 <= report["stages"][stage]["events"] < 30_000
    quiet = replay(chained(), "quiet", "--engine", "inline").finish()
    assert quiet.code == 0, quiet
    undisturbed = load_report(tmp_path / "quiet.json")
    for what in ("events", "paths", "compression"):
        assert undisturbed[what] == report[what]
    assert assert_same_recording(tmp_path / "chain.arrows", tmp_path / "quiet.arrows") == 20_000


@pytest.mark.long  # test_hung_workers has one without segments
def test_a_worker_that_hangs_in_a_segment_is_replaced(
    replay, http, chained, make_graph, tmp_path, load_report
):
    command = replay(chained(0.02, hang_timeout="3 s"), "hang")
    http.settled(command, 1000)
    worker(command, "compute-2").suspend()
    done = command.finish(90)
    assert done.code == 0, done
    report = load_report(tmp_path / "hang.json")
    assert report["restarts"] == {"compute-2": 1}
    assert report["events"]["offered"] == 20_000
    assert report["events"]["failed"] == 0


@pytest.mark.long
def test_a_swap_reaches_the_segment_that_has_the_stage(
    replay, sluice, http, chained, tmp_path, load_report
):
    command = replay(chained(0.05), "swap")
    http.settled(command, 500)
    address = f"127.0.0.1:{http.port}"
    swap = sluice("ctl", "swap", "tag", "wafer-tagger-half", "--address", address, "--json")
    assert swap.code == 0, swap
    assert json.loads(swap.out)["done"]["stage"] == "tag"
    done = command.finish(90)
    assert done.code == 0, done
    report = load_report(tmp_path / "swap.json")
    assert [one["stage"] for one in report["swaps"]] == ["tag"]
    assert report["events"]["failed"] == 0


def test_a_live_run_over_segments_loses_nothing(
    launch, sluice, http, chained, tmp_path, load_report
):
    graph = chained(batch_events=1000)
    text = graph.read_text().replace("tcp://127.0.0.1:5560", f"ipc://{tmp_path}/events")
    graph.write_text(text)
    run = launch(
        "run", graph, "--report", tmp_path / "live.json", "--out", tmp_path / "live.arrows",
        "--http", f"127.0.0.1:{http.port}",
    )  # fmt: skip
    http.ready(run)
    sent = sluice(
        "emulate", "wafers", "--to", f"ipc://{tmp_path}/events", "--rate", 4000, "--seconds", 2,
        "--json",
    )  # fmt: skip
    assert sent.code == 0, sent
    events = json.loads(sent.out)["events"]
    http.settled(run, events)
    stop = sluice("ctl", "stop", "--address", f"127.0.0.1:{http.port}")
    assert stop.code == 0, stop
    done = run.finish()
    assert done.code == 0, done
    counts = load_report(tmp_path / "live.json")["events"]
    assert counts["offered"] == events > 0
    assert counts["lost"] == counts["failed"] == 0
