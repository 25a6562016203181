"""What a run writes to its log, and what it tells systemd."""

from __future__ import annotations

import json
import signal
import socket
import time
from datetime import datetime
from pathlib import Path

import pytest

from sluice.pipeline.transport.curve_keys import new_keys, write_keys


def lines(done):
    """Return the JSON lines on stderr, and check that each has what every line has."""
    found = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    for line in found:
        assert datetime.fromisoformat(line["time"]).tzinfo is not None
        assert line["time"].endswith("Z")
        assert line["level"] in ("debug", "info", "warning", "error")
        assert line["logger"].startswith("sluice.")
        assert line["message"]
        assert line["process"]
    return found


def of(done, event):
    return [line for line in lines(done) if line["event"] == event]


@pytest.fixture
def slow_graph(make_graph):
    delay = {"use": "test.delay", "name": "slow", "seconds": 0.01}
    return make_graph("slow", first=[delay], sink={"use": "null"}, graph={"batch_events": 100})


def test_a_killed_worker_is_logged_with_pid_signal_and_batches(launch, http, slow_graph, wafers):
    command = launch(
        "replay", wafers, "--graph", slow_graph, "--http", f"127.0.0.1:{http.port}",
        "--workers", 1, "--log-json",
    )  # fmt: skip
    http.settled(command, 500)
    (killed,) = command.workers()
    killed.kill()
    done = command.finish()
    assert done.code == 0, done
    (ended,) = of(done, "worker-exited")
    assert ended["pid"] == killed.pid
    assert ended["signal"] == "SIGKILL"
    assert ended["exit_code"] is None
    assert ended["worker"] == "compute-0"
    assert ended["batches"] >= 1
    assert ended["run"] == 1
    (again,) = of(done, "worker-restarted")
    assert again["worker"] == "compute-0"
    assert again["pid"] != killed.pid
    assert again["restarts"] == 1
    assert "worker-ready" not in {line["event"] for line in lines(done)}  # a replay warns only


def test_a_run_tells_its_states_workers_and_front_ends(
    launch, http, sluice, make_graph, reserve_port
):
    port = reserve_port()
    graph = make_graph(
        source={"use": "live", "listen": f"tcp://127.0.0.1:{port}", "columns": WORDS},
        sink={"use": "null"}, graph={"batch_events": 64},
    )  # fmt: skip
    command = launch(
        "run", graph, "--http", f"127.0.0.1:{http.port}", "--log-json", "--log-level", "DEBUG"
    )
    http.until("/readyz", lambda code, _: code == 200, command)
    sent = sluice(
        "emulate", "wafers", "--to", f"tcp://127.0.0.1:{port}", "--rate", 2000, "--seconds", 1
    )
    assert sent.code == 0, sent
    command.signal(signal.SIGTERM)
    done = command.finish()
    assert done.code == 0, done
    states = [line["state"] for line in of(done, "run-state")]
    assert states == ["CONFIGURED", "RUNNING", "STOPPED"]
    assert len(of(done, "run-draining")) == 1
    assert {line["worker"] for line in of(done, "worker-ready")} >= {"sink", "compute-0"}
    assert of(done, "worker-exited") == []
    (came,), (gone,) = of(done, "front-end-connected"), of(done, "front-end-gone")
    assert came["peer"] == gone["peer"]
    assert (came["source"], gone["next_event"]) == (1, 2000)
    children = {line["process"] for line in of(done, "process-started")}
    assert {"sink", "compute-0"} <= children
    assert {line["run"] for line in of(done, "process-started")} == {1}
    assert len(lines(done)) < 40  # nothing per batch, nothing per event


WORDS = {"words": "uint32[12]"}


def test_shed_events_are_logged_first_at_once_then_as_sums(
    launch, http, sluice, make_graph, reserve_port, tmp_path, load_report
):
    port = reserve_port()
    delay = {"use": "test.delay", "name": "slow", "seconds": 0.05}
    graph = make_graph(
        source={
            "use": "live", "listen": f"tcp://127.0.0.1:{port}", "columns": WORDS, "backlog": 200,
        },
        first=[delay], sink={"use": "null"}, graph={"batch_events": 64},
    )  # fmt: skip
    report = tmp_path / "report.json"
    command = launch(
        "run", graph, "--http", f"127.0.0.1:{http.port}", "--log-json", "--report", report
    )
    http.until("/readyz", lambda code, _: code == 200, command)
    sent = sluice(
        "emulate", "wafers", "--to", f"tcp://127.0.0.1:{port}", "--rate", 20_000, "--seconds", 2,
        "--per-message", 512,  # more than the backlog takes, whether a pause is asked for or not
    )  # fmt: skip
    assert sent.code == 0, sent
    command.signal(signal.SIGTERM)
    done = command.finish()
    shed = load_report(report)["events"]["shed"]
    assert shed
    shed_lines = of(done, "events-shed")
    assert "seconds" not in shed_lines[0]
    assert 2 <= len(shed_lines) <= 4
    assert all("seconds" in line for line in shed_lines[1:])
    assert sum(line["count"] for line in shed_lines) == shed
    assert {line["level"] for line in shed_lines} == {"warning"}


def test_a_rejected_connection_is_logged_with_address_and_reason(
    launch, http, sluice, make_graph, reserve_port, tmp_path
):
    for name in ("ingest", "allowed/front-end", "stranger"):
        write_keys(tmp_path / name, new_keys())
    endpoint = f"tcp://127.0.0.1:{reserve_port()}"
    security = {"key": str(tmp_path / "ingest.secret"), "allow": [str(tmp_path / "allowed")]}
    graph = make_graph(
        source={"use": "live", "listen": endpoint, "columns": WORDS, "security": security},
        sink={"use": "null"},
    )
    command = launch("run", graph, "--http", f"127.0.0.1:{http.port}", "--log-json")
    http.until("/readyz", lambda code, _: code == 200, command)
    refused = sluice(
        "emulate", "wafers", "--to", endpoint, "--rate", 100, "--seconds", 1,
        "--key", tmp_path / "stranger.secret", "--server-key", tmp_path / "ingest.public",
    )  # fmt: skip
    assert refused.code != 0
    assert "the server refuses our key" in refused.err
    command.signal(signal.SIGTERM)
    done = command.finish()
    assert done.code == 0, done
    (line,) = of(done, "connection-rejected")
    assert line["level"] == "warning"
    assert line["logger"] == "sluice.transport"
    assert (line["address"], line["reason"]) == ("127.0.0.1", "its key is not allowed")
    assert line["count"] == 1


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_ready_watchdog_and_stopping(
    launch, make_graph, reserve_port, tmp_path: Path, abstract
):
    graph = make_graph(
        source={"use": "live", "listen": f"tcp://127.0.0.1:{reserve_port()}", "columns": WORDS},
        sink={"use": "null"},
    )
    address = f"@sluice-test-{reserve_port()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(address.replace("@", "\0"))
        notify.settimeout(60)
        command = launch("run", graph, env={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})

        def wait_for_message(wanted):
            heard = []
            while not any(wanted in text for text in heard):
                heard.append(notify.recv(4096).decode().split("\n"))
            return [line for text in heard for line in text]

        before = wait_for_message("READY=1")
        assert any(line.startswith("STATUS=RUNNING: run 1") for line in before)
        assert len(command.workers()) >= 1
        for _ in range(3):
            began = time.monotonic()
            wait_for_message("WATCHDOG=1")
            assert time.monotonic() - began < 10
        command.signal(signal.SIGTERM)
        wait_for_message("STOPPING=1")
        assert command.finish().code == 0
        wait_for_message("STATUS=STOPPED: run 1 of graph hgcal")
