"""`kill -9` of any process: no event is lost, and a run that cannot go on says why."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import time

import psutil
import pyarrow as pa
import pytest

COLUMNS = ["event_id", "packed", "sum_q", "score", "outcome", "decision"]
SINK = {"use": "recording", "keep": "all", "columns": COLUMNS}


@pytest.fixture
def slow_graph(make_graph):
    """A graph of small batches that take 10 ms each: a run is under way for a while."""

    def make(seconds=0.01):
        delay = {"use": "test.delay", "name": "slow", "seconds": seconds}
        return make_graph(str(seconds), first=[delay], sink=SINK, graph={"batch_events": 100})

    return make


def replay(launch, http, wafers, graph, tmp_path, name, *more):
    listen = f"127.0.0.1:{http.port}"
    return launch(
        "replay", wafers, "--graph", graph, "--report", tmp_path / f"{name}.json",
        "--out", tmp_path / f"{name}.arrows", "--http", listen, *more,
    )  # fmt: skip


@pytest.fixture
def finish(load_report, tmp_path):
    """Wait for the end of a replay of all wafers; nothing was lost but the processes killed."""

    def wait(command, name):
        done = command.finish()
        assert done.code == 0, done
        report = load_report(tmp_path / f"{name}.json")
        assert report["events"]["offered"] == 20_000
        for never in ("lost", "failed", "shed", "invalid"):
            assert report["events"][never] == 0
        return report

    return wait


@pytest.fixture
def assert_undisturbed(sluice, slow_graph, wafers, tmp_path, load_report, assert_same_recording):
    """Compare report and recording with those of a run in which nothing is killed."""

    def compare(report, name):
        quiet = sluice(
            "replay", wafers, "--graph", slow_graph(0.0), "--engine", "inline",
            "--report", tmp_path / "quiet.json", "--out", tmp_path / "quiet.arrows",
        )  # fmt: skip
        assert quiet.code == 0, quiet
        undisturbed = load_report(tmp_path / "quiet.json")
        assert undisturbed["events"] == report["events"]
        assert undisturbed["paths"] == report["paths"]
        recordings = tmp_path / f"{name}.arrows", tmp_path / "quiet.arrows"
        assert assert_same_recording(*recordings) == report["output"]["events"] == 20_000

    return compare


def test_killing_a_worker_again_and_again_loses_nothing(
    launch, http, slow_graph, wafers, tmp_path, finish, assert_undisturbed
):
    command = replay(launch, http, wafers, slow_graph(), tmp_path, "killed", "--workers", 2)
    http.settled(command, 500)
    killed = set()
    for _ in range(3):
        worker = next(worker for worker in command.workers() if worker.pid not in killed)
        killed.add(worker.pid)
        worker.kill()
        time.sleep(0.1)
    metrics = http.until(
        "/metrics", lambda _, text: 'sluice_worker_restarts_total{worker="compute-' in text, command
    )
    assert "sluice_worker_restarts_total" in metrics
    report = finish(command, "killed")
    assert sum(report["restarts"].values()) == 3
    assert_undisturbed(report, "killed")


def test_killing_the_fork_server_costs_nothing_and_the_next_forks_workers(
    launch, http, slow_graph, wafers, tmp_path, finish
):
    command = replay(launch, http, wafers, slow_graph(), tmp_path, "fork_server")
    http.settled(command, 500)
    (fork_server,) = command.workers("fork-server")
    fork_server.kill()
    (worker,) = command.workers()
    worker.kill()
    http.until(
        "/metrics", lambda _, text: 'restarts_total{worker="compute-0"} 1.0' in text, command
    )
    # A worker that is being forked has the title of the fork server.
    http.until("/readyz", lambda *_: len(command.workers()) == 1, command)
    (successor,) = command.workers("fork-server")
    assert successor.pid != fork_server.pid
    assert finish(command, "fork_server")["restarts"] == {"fork_server": 1, "compute-0": 1}


def test_a_fork_server_that_stands_still_does_not_hold_up_the_run(
    launch, http, slow_graph, wafers, tmp_path, load_report
):
    """The other worker goes on; the one that was killed is started by the next fork server."""
    command = replay(launch, http, wafers, slow_graph(0.05), tmp_path, "still", "--workers", 2)
    http.settled(command, 500)
    (fork_server,) = command.workers("fork-server")
    fork_server.suspend()
    command.workers()[0].kill()
    settled, longest_s, since = 0, 0.0, time.monotonic()
    while since < (now := time.monotonic()) and settled < 10_000:
        _, text = http.get("/status")
        events = json.loads(text)["report"]["events"]
        if (number := sum(events.values()) - events["offered"]) != settled:
            settled, longest_s, since = number, max(longest_s, now - since), now
        assert now - since < 30
        time.sleep(0.02)
    assert longest_s < 3.0
    done = command.finish()
    assert done.code == 0, done
    report = load_report(tmp_path / "still.json")
    assert report["events"]["offered"] == 20_000
    assert report["events"]["failed"] == 0
    assert report["restarts"]["fork_server"] == 1


@pytest.mark.parametrize("killed", ["spins", "stands still"])
def test_workers_end_with_their_engine_whatever_they_do(
    killed, launch, http, make_graph, wafers, tmp_path, remove_run_folders
):
    spin = {"use": "test.spin", "name": "spin", "ids": [500]}
    graph = make_graph(first=[spin], sink=SINK, graph={"batch_events": 200})
    command = replay(launch, http, wafers, graph, tmp_path, "spin")
    http.ready(command)
    workers = [*command.workers(), *command.workers("sink"), *command.workers("fork-server")]
    assert len(workers) == 3
    if killed == "stands still":
        workers[0].suspend()
    command.signal(signal.SIGKILL)
    gone, alive = psutil.wait_procs(workers, 10)
    for process in alive:
        process.kill()
    assert not alive
    assert len(gone) == 3
    remove_run_folders()


def test_a_batch_that_kills_its_worker_once_is_processed_by_the_next(
    launch, http, make_graph, wafers, tmp_path, finish
):
    poison = {"use": "test.poison", "name": "poison", "ids": [5000], "once": str(tmp_path / "mark")}
    graph = make_graph(last=[poison], sink=SINK, graph={"batch_events": 500})
    command = replay(launch, http, wafers, graph, tmp_path, "poison")
    assert finish(command, "poison")["restarts"] == {"compute-0": 1}


def test_an_event_that_kills_every_worker_fails_alone_and_the_run_goes_on(
    launch, http, make_graph, wafers, tmp_path, load_report
):
    """It is found by the workers that follow, whose ends do not use up the restarts."""
    poison = {"use": "test.poison", "name": "poison", "ids": [5000]}
    graph = make_graph(
        last=[poison], sink=SINK, graph={"batch_events": 500}, workers={"restarts": 2}
    )
    quarantine = tmp_path / "q.arrows"
    command = replay(launch, http, wafers, graph, tmp_path, "poison", "--quarantine", quarantine)
    done = command.finish()
    assert done.code == 0, done
    report = load_report(tmp_path / "poison.json")
    assert report["closed"]
    assert report["events"]["offered"] == 20_000
    assert report["events"]["failed"] == 1
    assert report["quarantine"]["reasons"] == {"kills its worker": 1}
    assert report["restarts"] == {"compute-0": 4}
    with pa.OSFile(str(quarantine)) as file:
        table = pa.ipc.open_stream(file).read_all().to_pydict()
    assert (table["event_id"], table["outcome"]) == ([5000], ["failed"])
    assert readable(tmp_path / "poison.arrows") == 20_000


def test_killing_the_sink_again_and_again_loses_and_doubles_nothing(
    launch, http, slow_graph, wafers, tmp_path, finish, assert_undisturbed
):
    command = replay(launch, http, wafers, slow_graph(), tmp_path, "sink", "--workers", 2)
    for settled in (500, 2000, 6000):
        http.settled(command, settled)
        (sink,) = command.workers("sink")
        sink.kill()
        sink.wait(10)
    report = finish(command, "sink")
    assert report["restarts"] == {"sink": 3}
    assert report["seconds"]["down"] > 0
    assert_undisturbed(report, "sink")


def test_a_sink_without_a_journal_is_restarted_too(
    launch, http, make_graph, wafers, tmp_path, finish
):
    delay = {"use": "test.delay", "name": "slow", "seconds": 0.01}
    graph = make_graph(first=[delay], sink={"use": "null"}, graph={"batch_events": 100})
    command = replay(launch, http, wafers, graph, tmp_path, "null")
    http.settled(command, 500)
    (sink,) = command.workers("sink")
    sink.kill()
    assert finish(command, "null")["restarts"] == {"sink": 1}


def test_a_sink_that_crashes_too_often_ends_the_run_with_its_ledger_closed(
    launch, http, make_graph, wafers, tmp_path, load_report
):
    delay = {"use": "test.delay", "name": "slow", "seconds": 0.01}
    graph = make_graph(
        first=[delay], sink=SINK, graph={"batch_events": 100}, workers={"restarts": 0}
    )
    command = replay(launch, http, wafers, graph, tmp_path, "sink")
    http.settled(command, 1000)
    (sink,) = command.workers("sink")
    sink.kill()
    done = command.finish()
    assert done.code == 5, done
    assert "sink" in done.err
    assert "no restarts left of 0" in done.err
    counts = load_report(tmp_path / "sink.json")["events"]
    assert counts["failed"] > 0
    decided = counts["offered"] - counts["failed"]
    # An acknowledged event is on disk; one more batch may be there whose word never came.
    assert decided <= readable(tmp_path / "sink.arrows") <= counts["offered"]


def test_a_worker_that_hangs_is_named(launch, http, make_graph, wafers, tmp_path, load_report):
    hang = {"use": "test.hang", "name": "hang", "ids": [5000]}
    graph = make_graph(last=[hang], sink=SINK, workers={"stall_timeout": "1 s"})
    command = replay(launch, http, wafers, graph, tmp_path, "hang")
    started = time.monotonic()
    done = command.finish()
    assert time.monotonic() - started < 50
    assert done.code == 5, done
    assert "no batch came back for 1 s" in done.err
    assert "compute-0" in done.err
    assert load_report(tmp_path / "hang.json")["events"]["failed"] > 0


def test_children_end_when_the_engine_is_killed(
    launch, http, slow_graph, wafers, tmp_path, remove_run_folders
):
    command = replay(launch, http, wafers, slow_graph(), tmp_path, "orphans")
    http.settled(command, 500)
    family = command.children()
    assert len(family) == 3  # with the fork server
    command.signal(signal.SIGKILL)
    command.finish()
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive
    for folder in command.folder.glob("*.json"):
        folder.unlink()
    assert readable(tmp_path / "orphans.arrows") >= 400
    remove_run_folders()


def readable(path) -> int:
    """Return the events that plain pyarrow reads from a recording, whole or cut short."""
    events = 0
    with pa.OSFile(str(path)) as file:
        stream = pa.ipc.open_stream(file)
        while True:
            try:
                events += stream.read_next_batch().num_rows
            except (StopIteration, OSError, pa.ArrowException):
                return events


def test_model_exchanged_in_mid_run_is_refused_by_the_next_worker(
    launch, http, slow_graph, wafers, tmp_path, load_report, models
):
    mine = tmp_path / "models"
    shutil.copytree(models, mine)
    env = {"SLUICE_MODELS": str(mine)}
    listen = f"127.0.0.1:{http.port}"
    command = launch(
        "replay", wafers, "--graph", slow_graph(), "--report", tmp_path / "r.json",
        "--http", listen, env=env,
    )  # fmt: skip
    http.settled(command, 500)
    manifest = mine / "wafer-tagger" / "1" / "manifest.toml"
    golden, file = manifest.with_name("golden.npz"), manifest.with_name("model.onnx")
    before = sha256(file)
    content = file.read_bytes() + b"\x72\x00"  # an empty metadata entry: another file, same model
    file.write_bytes(content)
    manifest.write_text(manifest.read_text().replace(before, sha256(file)))
    assert golden.is_file()
    command.workers()[0].kill()
    done = command.finish()
    assert done.code != 0, done
    assert "wafer-tagger" in done.err
    assert before[:12] in done.err
    assert sha256(file)[:12] in done.err
    load_report(tmp_path / "r.json")


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
