"""A burst of ten times the rate, over real sockets: the ladder takes it, nothing is lost."""

from __future__ import annotations

import json
import signal
import time

import pytest

from sluice.pipeline.recording import RecordingReader


@pytest.fixture(params=[pytest.param("inline", marks=pytest.mark.long), "distributed"])
def daemon(request, launch, http, make_graph, tmp_path):
    """A daemon whose full rung can process 2,000 events/s, its endpoint, report and recording."""
    endpoint = f"ipc://{tmp_path}/ingest"
    graph = make_graph(
        "burst",
        source={"listen": endpoint, "backlog": 100_000},
        graph={"batch_events": 128, "latency_budget": "50 ms"},
        first=[{"name": "slow", "use": "test.slow", "seconds": 0.0005}],
        sink={"use": "recording", "keep": "all", "columns": ["event_id", "outcome", "rung"]},
    )
    report, out = tmp_path / "run.json", tmp_path / "run.arrows"
    listen = f"127.0.0.1:{http.port}"
    command = launch("run", graph, "--engine", request.param, "--report", report, "--http", listen,
                     "--out", out, "--log-json")  # fmt: skip
    http.ready(command)
    return command, endpoint, report, out


@pytest.mark.timeout(240)
def test_ten_times_the_rate_steps_down_and_comes_back(daemon, sluice, http, load_report):
    command, endpoint, report, out = daemon
    first = 0
    for rate, seconds in ((500, 2), (5_000, 3), (500, 6)):
        sent = sluice("emulate", "wafers", "--to", endpoint, "--rate", rate, "--seconds", seconds,
                      "--first-id", first, "--json")  # fmt: skip
        assert sent.code == 0, sent
        said = json.loads(sent.out)
        assert said["dropped"] == said["suppressed"] == 0
        first += said["events"]
    http.settled(command, first)
    page = http.get("/metrics")[1]
    assert 'sluice_ladder_rung{stage="slow"}' in page
    command.signal(signal.SIGTERM)
    done = command.finish(60)
    assert done.code == 0, done
    result = load_report(report)
    assert result["closed"]
    assert result["events"]["offered"] == first == 19_000
    assert all(result["events"][outcome] == 0 for outcome in ("shed", "lost", "failed", "invalid"))
    ladder = result["ladder"]
    assert sum(ladder["events"]) == 19_000
    assert ladder["events"][1] > 5_000  # most of the burst
    assert ladder["events"][0] > 1_000  # before it at least
    assert sum(ladder["seconds"]) == pytest.approx(result["seconds"]["wall"], rel=0.05)
    assert ladder["rung"] == 0  # it came back
    log = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    steps = [line for line in log if line.get("event") == "ladder-step"]
    assert {line["level"] for line in steps} == {"info"}
    # Down and up by turns, first down and last up.
    turns = [(line["before"], line["after"]) for line in steps]
    assert turns == [(0, 1), (1, 0)] * (len(turns) // 2)
    assert "later than the latency budget" in steps[0]["reason"]
    assert "no batch was late" in steps[-1]["reason"]
    reader = RecordingReader(out)
    rungs = [batch["rung"] for batch in reader.batches()]
    reader.close()
    assert [sum(int((r == n).sum()) for r in rungs) for n in (0, 1)] == ladder["events"]


def test_a_paced_replay_that_was_late_comes_back_too(
    launch, http, make_graph, wafers, tmp_path, load_report
):
    """Held up for a second, it is late, steps down, catches up, and steps up again."""
    graph = make_graph(
        graph={"batch_events": 32, "latency_budget": "50 ms"},
        first=[{"name": "slow", "use": "test.slow", "seconds": 0.0002}],
        sink={"use": "null"},
    )
    report = tmp_path / "run.json"
    command = launch("replay", wafers, "--graph", graph, "--engine", "inline", "--rate", 2_000,
                     "--report", report, "--http", f"127.0.0.1:{http.port}")  # fmt: skip
    http.settled(command, 2_000)
    command.signal(signal.SIGSTOP)
    time.sleep(1.5)
    command.signal(signal.SIGCONT)

    def came_back(status, text):
        ladder = json.loads(text)["report"]["ladder"] if status == 200 else {}
        return bool(ladder) and ladder["events"][1] > 500 and ladder["rung"] == 0

    http.until("/status", came_back, command)
    command.signal(signal.SIGTERM)
    assert command.finish(60).code in (0, 9)  # 0 where the input was over first
    result = load_report(report)
    assert result["closed"]
    assert sum(result["ladder"]["events"]) == result["events"]["offered"]
