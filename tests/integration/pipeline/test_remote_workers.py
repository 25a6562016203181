"""Workers that join a run over TCP: same decisions, keys, models, crashes, and a hang."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sluice.pipeline.transport.curve_keys import new_keys, write_keys

COLUMNS = ["event_id", "t_ingest", "packed", "sum_q", "score", "outcome", "decision"]
SINK = {"use": "recording", "keep": "all", "columns": COLUMNS[:1] + COLUMNS[2:]}


@pytest.fixture
def ports(reserve_port):
    """Where workers join, and where their results come."""
    return reserve_port(), reserve_port()


@pytest.fixture
def keys(tmp_path):
    """Keys of ingest, of a worker that may join, and of one that may not."""
    for name in ("ingest", "allowed/worker", "refused"):
        write_keys(tmp_path / "keys" / name, new_keys())
    return tmp_path / "keys"


@pytest.fixture
def open_graph(make_graph, ports, keys):
    """A graph whose run listens for workers, with small batches."""

    def make(name="open", compute=0, sink=SINK, first=None, batch_events=200, **workers):
        security = {"key": str(keys / "ingest.secret"), "allow": [str(keys / "allowed")]}
        table = {
            "compute": compute, "security": security,
            "listen": f"tcp://127.0.0.1:{ports[0]}", "results": f"tcp://127.0.0.1:{ports[1]}",
            **workers,
        }  # fmt: skip
        if "chain" in workers:
            del table["compute"]
        graph = {"batch_events": batch_events}
        return make_graph(name, first=first, sink=sink, graph=graph, workers=table)

    return make


@pytest.fixture
def join(launch, ports, keys):
    """Start `sluice worker`."""

    def start(who="allowed/worker", name=None, env=None, server="ingest"):
        named = ["--name", name] if name else []
        return launch(
            "worker", f"tcp://127.0.0.1:{ports[0]}", "--key", keys / f"{who}.secret",
            "--server-key", keys / f"{server}.public", "--patience", 90, *named, env=env,
        )  # fmt: skip

    return start


def recorded(path):
    """Return the event ids of a recording."""
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_stream(file).read_all()["event_id"].to_numpy()


def replay(launch, http, wafers, graph, tmp_path, name, *more):
    return launch(
        "replay", wafers, "--graph", graph, "--report", tmp_path / f"{name}.json",
        "--out", tmp_path / f"{name}.arrows", "--http", f"127.0.0.1:{http.port}", *more,
    )  # fmt: skip


def test_remote_workers_alone_decide_as_the_inline_engine_does(
    launch, sluice, join, open_graph, http, wafers, tmp_path, load_report, assert_same_recording
):
    command = replay(launch, http, wafers, open_graph(), tmp_path, "far")
    http.ready(command)
    workers = [join(name=f"w{i}") for i in range(2)]
    done = command.finish(100)
    assert done.code == 0, done
    for worker in workers:
        worker.signal(signal.SIGTERM)  # should it have come too late
        ended = worker.finish(60)
        assert ended.code in (0, -signal.SIGTERM), ended
    report = load_report(tmp_path / "far.json")
    assert report["remote_workers"] >= 1  # the other may come too late
    assert report["latency_s"]["clock"] == "CLOCK_TAI"
    assert 0 < report["latency_s"]["p50"] < 30
    assert report["protocol_errors"] == report["refused_connections"] == 0
    assert report["stages"]["encode"]["events"] == 20_000  # the last meters came too
    quiet = sluice(
        "replay", wafers, "--graph", open_graph("same"), "--engine", "inline",
        "--report", tmp_path / "quiet.json", "--out", tmp_path / "quiet.arrows",
    )  # fmt: skip
    assert quiet.code == 0, quiet
    assert load_report(tmp_path / "quiet.json")["events"] == report["events"]
    assert assert_same_recording(tmp_path / "far.arrows", tmp_path / "quiet.arrows") == 20_000


@pytest.mark.long
def test_workers_crash_leave_and_rejoin_and_nothing_is_lost(
    launch, join, open_graph, http, wafers, tmp_path, load_report
):
    slow = [{"use": "test.delay", "name": "slow", "seconds": 0.2}]
    graph = open_graph(compute=1, first=slow, batch_events=100, hang_timeout="3 s")
    command = replay(launch, http, wafers, graph, tmp_path, "mixed")
    http.ready(command)
    killed, leaving = join(name="killed"), join(name="leaving")

    def came(workers):
        return lambda status, text: (
            status == 200 and json.loads(text)["report"]["remote_workers"] == workers
        )

    http.until("/status", came(2), command)
    time.sleep(0.3)
    killed.process.kill()
    killed.process.communicate()
    again = join(name="killed")  # sooner than it is missed
    leaving.process.terminate()
    left = leaving.finish(20)
    assert left.code == 0, left
    assert "left" in left.err
    http.until("/status", came(3), command)
    done = command.finish(90)
    assert done.code == 0, done
    ended = again.finish(20)
    assert ended.code == 0, ended
    np.testing.assert_array_equal(recorded(tmp_path / "mixed.arrows"), np.arange(1, 20_001))
    report = load_report(tmp_path / "mixed.json")
    assert report["events"]["offered"] == 20_000
    for never in ("lost", "failed", "shed", "invalid"):
        assert report["events"][never] == 0
    assert report["restarts"] == {}


@pytest.mark.long
def test_a_segment_of_the_chain_on_another_host(
    launch, join, open_graph, http, wafers, tmp_path, load_report, assert_same_recording
):
    """From shared memory over the network and back; the worker there dies, and one comes again."""
    front, there, back = ["slow", "unpack", "normalise"], ["encode"], ["pack", "tag", "menu"]
    chain = [{"stages": front}, {"stages": there, "compute": 0}, {"stages": back}]

    def graph(name, seconds):
        slow = {"use": "test.delay", "name": "slow", "seconds": seconds}
        return open_graph(name, first=[slow], batch_events=200, chain=chain, hang_timeout="3 s")

    first = join(name="there")  # it starts while the others do
    quiet = launch(
        "replay", wafers, "--graph", graph("same", 0.0), "--engine", "inline",
        "--report", tmp_path / "quiet.json", "--out", tmp_path / "quiet.arrows",
    )  # fmt: skip
    command = replay(launch, http, wafers, graph("far", 0.1), tmp_path, "far")
    http.settled(command, 1000)
    first.process.kill()
    first.process.communicate()
    second = join(name="there")
    done = command.finish(100)
    assert done.code == 0, done
    ended = second.finish(20)
    assert ended.code == 0, ended
    report = load_report(tmp_path / "far.json")
    assert report["remote_workers"] == 2
    assert report["restarts"] == {}
    assert report["events"]["failed"] == report["protocol_errors"] == 0
    assert report["stages"]["encode"]["events"] > 0
    alone = quiet.finish(20)
    assert alone.code == 0, alone
    assert load_report(tmp_path / "quiet.json")["events"] == report["events"]
    assert assert_same_recording(tmp_path / "far.arrows", tmp_path / "quiet.arrows") == 20_000


@pytest.mark.long
def test_a_name_of_the_run_s_own_is_refused(
    launch, join, open_graph, http, wafers, tmp_path, load_report
):
    graph = open_graph(compute=1, first=[{"use": "test.delay", "name": "s", "seconds": 0.1}])
    command = replay(launch, http, wafers, graph, tmp_path, "names")
    http.ready(command)
    refused = join(name="sink").finish(30)
    assert refused.code == 5, refused
    assert "the name 'sink' is taken" in refused.err
    done = command.finish()
    assert done.code == 0, done
    report = load_report(tmp_path / "names.json")
    assert report["remote_workers"] == report["events"]["failed"] == 0


@pytest.mark.long
def test_other_models_are_refused_on_both_sides(
    launch, join, open_graph, http, wafers, tmp_path, load_report, models
):
    mine = tmp_path / "mine"
    shutil.copytree(models, mine)
    newest = max((mine / "wafer-tagger").iterdir(), key=lambda path: int(path.name))
    shutil.copytree(newest, newest.with_name("99"))
    manifest = newest.with_name("99") / "manifest.toml"
    version = f"version = {newest.name}\n"
    assert version in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(version, "version = 99\n"))
    graph = open_graph(compute=1, first=[{"use": "test.delay", "name": "s", "seconds": 0.1}])
    command = replay(launch, http, wafers, graph, tmp_path, "models")
    http.ready(command)
    refused = join(env={"SLUICE_MODELS": str(mine)}).finish(30)
    assert refused.code == 4, refused
    assert "the run uses wafer-tagger/" in refused.err
    assert "wafer-tagger/99" in refused.err
    done = command.finish()
    assert done.code == 0, done
    report = load_report(tmp_path / "models.json")
    assert report["remote_workers"] == 0
    assert report["events"]["failed"] == 0


@pytest.mark.long
def test_wrong_keys_are_refused(launch, join, open_graph, http, wafers, tmp_path, load_report):
    graph = open_graph(compute=1, first=[{"use": "test.delay", "name": "s", "seconds": 0.1}])
    command = replay(launch, http, wafers, graph, tmp_path, "keys")
    http.ready(command)
    refused = join("refused").finish(30)
    assert refused.code == 5, refused
    assert "refuses our key" in refused.err
    done = command.finish()
    assert done.code == 0, done
    report = load_report(tmp_path / "keys.json")
    assert report["refused_connections"] == 1
    assert report["remote_workers"] == 0


def test_a_run_that_does_not_answer_is_an_error(sluice, keys, ports):
    done = sluice(
        "work", f"tcp://127.0.0.1:{ports[0]}", "--patience", 0.5,
        "--key", keys / "allowed" / "worker.secret", "--server-key", keys / "ingest.public",
    )  # fmt: skip
    assert done.code == 5, done
    assert "no answer in 0.5 s" in done.err
    beyond = sluice("work", "tcp://192.0.2.1:5561")
    assert beyond.code == 2, beyond
    assert "expected keys" in beyond.err


def test_a_worker_that_waits_for_a_run_can_be_stopped(join):
    worker = join()
    status = Path(f"/proc/{worker.process.pid}/status")
    mask = 1 << (signal.SIGTERM - 1)
    deadline = time.monotonic() + 30
    while not mask & int(status.read_text().partition("SigCgt:")[2].split()[0], 16):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    worker.signal(signal.SIGTERM)
    done = worker.finish(20)  # its patience is 90 s
    assert done.code == 0, done
    assert "left" in done.err


def test_a_worker_notices_that_ingest_is_gone(
    launch, join, open_graph, http, wafers, tmp_path, remove_run_folders
):
    slow = [{"use": "test.delay", "name": "slow", "seconds": 0.1}]
    graph = open_graph(first=slow, hang_timeout="3 s")
    worker = join()
    command = replay(launch, http, wafers, graph, tmp_path, "gone")
    http.settled(command, 400)
    family = command.children()
    command.process.kill()
    command.process.communicate()
    done = worker.finish(30)
    assert done.code == 5, done
    assert "no message from ingest for 5 s" in done.err
    for child in family:
        child.wait(15)
    remove_run_folders()


def test_a_worker_that_hangs_is_killed_and_its_batch_goes_to_the_next(
    launch, http, make_graph, wafers, tmp_path, load_report
):
    hang = {"use": "test.hang", "name": "hang", "ids": [5000], "once": str(tmp_path / "mark")}
    graph = make_graph(
        last=[hang], sink=SINK, graph={"batch_events": 500}, workers={"hang_timeout": "3 s"}
    )
    started = time.monotonic()
    done = replay(launch, http, wafers, graph, tmp_path, "hang").finish()
    assert done.code == 0, done
    assert time.monotonic() - started < 40
    report = load_report(tmp_path / "hang.json")
    assert report["restarts"] == {"compute-0": 1}
    assert report["events"]["offered"] == 20_000
    assert report["events"]["failed"] == 0


def test_long_batches_within_the_bound_are_no_hang(
    launch, http, make_graph, wafers, tmp_path, load_report
):
    slow = {"use": "test.delay", "name": "slow", "seconds": 1.5}
    graph = make_graph(
        first=[slow], sink=SINK, graph={"batch_events": 10_000}, workers={"hang_timeout": "5 s"}
    )
    done = replay(launch, http, wafers, graph, tmp_path, "long").finish()
    assert done.code == 0, done
    assert load_report(tmp_path / "long.json")["restarts"] == {}
