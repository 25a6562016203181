"""SIGTERM drains, a second one gives up and says what was left, ports and signals are let go."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest

SINK = {"use": "recording", "keep": "all", "columns": ["event_id", "decision"]}


@pytest.mark.parametrize("engine", [pytest.param("inline", marks=pytest.mark.long), "distributed"])
def test_sigterm_in_a_paced_replay_drains_and_closes(
    engine, launch, sluice, http, make_graph, wafers, tmp_path, load_report
):
    report, out = tmp_path / "r.json", tmp_path / "o.arrows"
    command = launch(
        "replay", wafers, "--graph", make_graph(sink=SINK), "--rate", 4000, "--engine", engine,
        "--report", report, "--out", out, "--http", f"127.0.0.1:{http.port}",
    )  # fmt: skip
    http.settled(command, 500)
    command.signal(signal.SIGTERM)
    done = command.finish(30)
    assert done.code == 9, done
    result = load_report(report)
    assert result["state"] == "STOPPED"
    assert 500 <= result["events"]["offered"] < 20_000
    assert result["input"] == {"expected": 20_000, "whole": False}
    assert f"stopped after {result['events']['offered']:,} of 20,000 events" in done.err
    assert result["output"]["events"] == result["events"]["offered"]
    assert sluice("inspect", out).code == 0  # whole: with its end-of-run record


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_drains_as_well(
    number, launch, http, make_graph, wafers, tmp_path, load_report
):
    """As systemd does it, and a terminal that is closed: every process gets the signal."""
    report = tmp_path / "r.json"
    command = launch(
        "replay", wafers, "--graph", make_graph(sink=SINK), "--rate", 4000,
        "--report", report, "--http", f"127.0.0.1:{http.port}",
    )  # fmt: skip
    http.settled(command, 200)
    os.killpg(command.process.pid, number)
    done = command.finish(30)
    assert done.code == 9, done
    result = load_report(report)
    assert result["restarts"] == {}
    assert result["events"]["failed"] == 0
    assert result["output"]["events"] == result["events"]["offered"]


def test_second_sigterm_gives_up_and_says_what_was_left(
    launch, http, make_graph, wafers, tmp_path, load_report
):
    delay = {"use": "test.delay", "name": "slow", "seconds": 1.0}
    graph = make_graph(first=[delay], sink=SINK, graph={"batch_events": 500, "window": 4})
    report = tmp_path / "r.json"
    command = launch(
        "replay", wafers, "--graph", graph, "--report", report,
        "--http", f"127.0.0.1:{http.port}",
    )  # fmt: skip
    http.ready(command)
    time.sleep(0.5)
    command.signal(signal.SIGTERM)
    http.stopping(command)
    command.signal(signal.SIGTERM)
    started = time.monotonic()
    done = command.finish(30)
    assert time.monotonic() - started < 15
    result = load_report(report)
    assert done.code == 5, done
    assert result["state"] == "ERROR"
    assert "second time" in done.err
    assert result["events"]["failed"] >= 500


def test_sigterm_while_starting_ends_soon_and_leaves_nothing(launch, wafers, tmp_path):
    command = launch("replay", wafers, "--graph", "hgcal", "--report", tmp_path / "r.json")
    deadline = time.monotonic() + 20
    while not command.workers() and time.monotonic() < deadline:
        time.sleep(0.01)
    command.signal(signal.SIGTERM)
    done = command.finish(30)
    assert done.code in (0, 5), done  # 0 where the replay was over first


def test_port_in_use(together, make_graph, free_port, wafers):
    with socket.create_server(("127.0.0.1", free_port)):
        taken = f"127.0.0.1:{free_port}"
        graph = make_graph(source={"listen": f"tcp://{taken}"})
        for one in together(
            ("replay", wafers, "--graph", "hgcal", "--http", taken),
            ("run", graph, "--http", "127.0.0.1:0"),
        ):
            assert one.code == 2, one
            assert str(free_port) in one.err
            assert "in use" in one.err


def test_source_that_breaks_in_an_unforeseen_way_does_not_hang(launch, make_graph, tmp_path):
    for engine in ("inline", "distributed"):
        graph = make_graph(source={"use": "test.broken"})
        command = launch("run", graph, "--engine", engine, "--http", "127.0.0.1:0")
        command.children()
        try:
            out, err = command.process.communicate(timeout=40)
        finally:
            command.end()
        assert command.process.returncode not in (0, None)
        assert "nobody foresaw this" in out + err


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("descriptors", 5, "sink: cannot write: [Errno 24] Too many open files"),
        ("interrupt", 5, "unforeseen: KeyboardInterrupt"),
        ("exit", 5, "unforeseen: SystemExit"),
        pytest.param("memory", 0, None, marks=pytest.mark.long),
    ],
)
def test_whatever_ends_a_run_it_has_a_report(
    what, code, words, sluice, make_graph, make_recording, tmp_path, load_report
):
    stage = {"use": "test.exhausting", "name": "exhausting", "once": what}
    graph = make_graph(first=[stage], sink=SINK, graph={"batch_events": 100})
    wafers = make_recording(tmp_path / "w.arrows", 500)
    done = sluice(
        "replay", wafers, "--graph", graph, "--engine", "inline", "--out", "o.arrows",
        "--report", "r.json",
    )  # fmt: skip
    assert done.code == code, done
    report = load_report(tmp_path / "r.json")
    assert report["closed"]
    assert report["state"] == ("ERROR" if code else "STOPPED")
    assert words is None or report["error"].startswith(words)


@pytest.mark.parametrize("engine", ["inline", "distributed"])
def test_stage_that_cannot_warm_up_refuses_the_start(engine, sluice, make_graph, wafers):
    graph = make_graph(first=[{"use": "test.cold", "name": "cold"}], sink=SINK)
    done = sluice("replay", wafers, "--graph", graph, "--engine", engine, timeout=40)
    assert done.code == 5, done
    assert "cold" in done.err
    assert "cannot even warm up" in done.err
