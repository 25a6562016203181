"""Peers that only send: the run goes on, and stops within seconds when it is told to."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import psutil
import pyarrow as pa
import pytest

SINK = {"use": "recording", "keep": "all", "columns": ["event_id", "outcome", "decision"]}
#: Sends one kind of message for ever.
FLOOD = """
import sys, zmq
from sluice.pipeline.transport.protocol import Header, Kind, encode
socket = zmq.Context().socket(zmq.DEALER)
socket.setsockopt(zmq.IDENTITY, sys.argv[2].encode())
socket.connect(sys.argv[1])
message = encode(Header(Kind[sys.argv[3]]))
while True:
    socket.send_multipart(message)
"""


@pytest.fixture
def flood():
    """Start processes that send messages of a kind to an endpoint, until the test ends."""
    started = []

    def start(port, kind, number):
        endpoint = f"tcp://127.0.0.1:{port}"
        arguments = [sys.executable, "-c", FLOOD, endpoint, f"flood-{number}", kind]
        started.append(subprocess.Popen(arguments))

    yield start
    for process in started:
        process.kill()
        process.wait(10)


def recorded(path):
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_stream(file).read_all()["event_id"].to_numpy()


def protocol_errors(http):
    status, text = http.get("/status")
    return json.loads(text)["report"]["protocol_errors"] if status == 200 else 0


def test_a_flood_at_the_ports_for_workers_holds_up_neither_the_run_nor_its_stop(
    launch, http, make_graph, reserve_port, wafers, tmp_path, load_report, flood
):
    joins, results = reserve_port(), reserve_port()
    slow = {"use": "test.delay", "name": "slow", "seconds": 0.02}
    workers = {
        "compute": 1, "listen": f"tcp://127.0.0.1:{joins}", "results": f"tcp://127.0.0.1:{results}"
    }  # fmt: skip
    graph = make_graph(first=[slow], sink=SINK, graph={"batch_events": 50}, workers=workers)
    command = launch(
        "replay", wafers, "--graph", graph, "--report", tmp_path / "r.json",
        "--out", tmp_path / "o.arrows", "--http", f"127.0.0.1:{http.port}",
    )  # fmt: skip
    http.settled(command, 100)
    for number, (port, kind) in enumerate([(joins, "HEARTBEAT"), (results, "RESULT")]):
        flood(port, kind, number)
    deadline = time.monotonic() + 30
    while protocol_errors(http) < 5_000:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    before = json.loads(http.get("/status")[1])["report"]["events"]
    http.settled(command, before["accepted"] + before["rejected"] + before["prescaled"] + 1_000)
    command.signal(signal.SIGTERM)
    command.finish(20)
    report = load_report(tmp_path / "r.json")
    assert report["closed"]
    events = report["events"]
    assert events["failed"] == events["lost"] == events["invalid"] == 0
    assert 1_000 < events["offered"] < 20_000
    ids = recorded(tmp_path / "o.arrows")
    np.testing.assert_array_equal(ids, np.arange(1, events["offered"] + 1))


def test_idle_connections_that_take_every_descriptor_cost_neither_a_worker_nor_the_report(
    launch, http, live_graph, endpoint, tmp_path, load_report
):
    graph = live_graph(sink=SINK, workers={"compute": 2})
    command = launch(
        "run", graph, "--report", tmp_path / "r.json", "--out", tmp_path / "o.arrows",
        "--http", f"127.0.0.1:{http.port}",
    )  # fmt: skip
    http.ready(command)
    engine = psutil.Process(command.process.pid)
    limit = engine.num_fds() + 10
    engine.rlimit(psutil.RLIMIT_NOFILE, (limit, limit))
    port = int(endpoint.rpartition(":")[2])
    idle = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(100)]
    try:
        command.workers()[0].kill()
        time.sleep(2)  # its restart is tried, and fails
        command.signal(signal.SIGTERM)
        done = command.finish(60)
    finally:
        for connection in idle:
            connection.close()
    assert done.code == 0, done
    assert "waits: Too many open files" in done.err
    assert load_report(tmp_path / "r.json")["state"] == "STOPPED"
