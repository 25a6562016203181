"""The daemon as its users meet it: a front end that sends, pages, and a Prometheus that scrapes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.recording import RecordingWriter

METRICS = (
    "sluice_events_total", "sluice_event_latency_seconds_bucket", "sluice_run_info",
    "sluice_stage_service_seconds_count", "sluice_stage_wait_seconds_count", "sluice_emd_count",
    "sluice_inflight_batches", "sluice_window_batches", "sluice_run_seconds_total",
    "sluice_model_info", "sluice_path_accepts_total", "sluice_monitor_dropped_total",
)  # fmt: skip
SINK = {"use": "recording", "keep": "accepted", "columns": ["event_id", "decision"]}


@pytest.fixture
def daemon(launch, http, live_graph, endpoint, tmp_path):
    """A daemon that is ready, its endpoint, and its report to be."""
    report = tmp_path / "run.json"
    command = launch(
        "run", live_graph(sink=SINK), "--report", report, "--http", f"127.0.0.1:{http.port}",
        "--run", 42, "--out", tmp_path / "run.arrows",
    )  # fmt: skip
    http.ready(command)
    return command, endpoint, report


def buckets_of(text, name, start):
    """Return the (upper edge, cumulative count) pairs of a histogram from one start."""
    form = rf'^{name}_bucket{{from="{start}",le="([^"]+)"}} (\S+)$'
    found = re.findall(form, text, re.MULTILINE)
    return [(float(edge), float(count)) for edge, count in found]


def test_emulator_into_daemon_loses_nothing_and_the_clocks_agree(
    daemon, http, sluice, load_report, tmp_path
):
    command, endpoint, report = daemon
    sent = sluice("emulate", "wafers", "--to", endpoint, "--rate", 2000, "--seconds", 3, "--json")
    assert sent.code == 0, sent
    sent = json.loads(sent.out)
    assert sent["events"] == sent["acknowledged"] == 6000
    assert sent["dropped"] == 0
    http.settled(command, 6000)
    page = http.get("/metrics")[1]
    status = json.loads(http.get("/status")[1])
    assert status["state"] == "RUNNING"
    assert "closed" not in status["report"]  # known at the end only
    command.signal(signal.SIGTERM)
    done = command.finish(30)
    assert done.code == 0, done
    result = load_report(report)
    counts = result["events"]
    assert counts["offered"] == 6000
    assert sum(counts[c] for c in ("shed", "invalid", "failed", "lost")) == 0
    assert result["protocol_errors"] == 0
    assert result["run"] == 42
    assert result["output"]["events"] == counts["accepted"]

    for start, key in (("ingest", "latency_s"), ("event", "event_latency_s")):
        buckets = buckets_of(page, "sluice_event_latency_seconds", start)
        assert buckets[-1] == (float("inf"), 6000.0)
        edges = [0.0, *(edge for edge, _ in buckets)]
        for name, q in (("p50", 0.5), ("p99", 0.99)):
            index = next(i for i, (_, count) in enumerate(buckets) if count >= q * 6000)
            assert edges[index] <= result[key][name] <= edges[index + 1] * 1.0001, (key, name)
    for name in ("p50", "p99", "max"):  # the emulator stamps earlier than ingest receives
        assert result["event_latency_s"][name] >= result["latency_s"][name] / 1.04, name
    for outcome in ("accepted", "rejected", "prescaled"):
        assert f'sluice_events_total{{outcome="{outcome}"}} {float(counts[outcome])}' in page


def test_pages(launch, http, live_graph):
    command = launch("run", live_graph(sink=SINK), "--http", f"127.0.0.1:{http.port}")
    seen = http.until("/livez", lambda status, _: status == 200, command)
    assert seen in ("INITIAL", "CONFIGURED", "RUNNING")
    http.ready(command)
    assert http.get("/livez") == (200, "RUNNING")
    assert http.get("/readyz") == (200, "RUNNING")
    assert http.get("/nowhere")[0] == 404
    assert "/metrics" in http.get("/")[1]
    status, text = http.get("/status")
    assert status == 200
    assert json.loads(text)["report"]["events"]["offered"] == 0
    os.killpg(command.process.pid, signal.SIGINT)  # as a terminal's Ctrl-C
    done = command.finish(30)
    assert done.code == 0, done
    assert http.get("/livez")[0] == 0


def test_hostile_front_ends_do_not_stop_the_run(daemon, http, sluice, load_report, tmp_path):
    command, endpoint, report = daemon
    schema = Schema((EVENT_ID, T_EVENT, Column("words", "uint32", (13,))))
    path = tmp_path / "thirteen.arrows"
    with RecordingWriter(path, schema) as writer:
        writer.write(EventBatch({c.name: np.zeros_like(c.empty(5)) for c in schema}, 5))
    refused = sluice("emulate", "--from", path, "--to", endpoint, "--seconds", 1)
    assert refused.code != 0
    assert "expected uint32[12], got uint32[13]" in refused.err  # an answer, not a timeout
    host, port = endpoint.removeprefix("tcp://").split(":")
    for noise in (b"GET / HTTP/1.0\r\n\r\n", b"\x00" * 1000, b"\xff" * 64, b""):
        with socket.create_connection((host, int(port)), timeout=5) as hostile:
            hostile.sendall(noise)
    sent = sluice("emulate", "wafers", "--to", endpoint, "--rate", 2000, "--seconds", 0.2, "--json")
    assert json.loads(sent.out)["acknowledged"] == 400
    http.settled(command, 400)
    command.signal(signal.SIGTERM)
    assert command.finish(30).code == 0
    result = load_report(report)
    assert result["events"]["offered"] == 400
    assert result["protocol_errors"] == 1


def test_what_was_received_is_accounted_even_when_the_run_is_given_up(
    launch, http, live_graph, endpoint, sluice, tmp_path, load_report
):
    delay = {"use": "test.delay", "name": "slow", "seconds": 1.0}
    graph = live_graph(first=[delay], graph={"batch_events": 50})
    report = tmp_path / "r.json"
    command = launch("run", graph, "--report", report, "--http", f"127.0.0.1:{http.port}")
    http.ready(command)
    sent = sluice("emulate", "wafers", "--to", endpoint, "--rate", 4000, "--seconds", 0.5, "--json")
    assert json.loads(sent.out)["acknowledged"] == 2000
    command.signal(signal.SIGTERM)
    http.stopping(command)
    command.signal(signal.SIGTERM)
    assert command.finish(30).code == 5
    counts = load_report(report)["events"]
    assert counts["offered"] == 2000
    assert counts["failed"] > 0
    assert counts["lost"] == counts["shed"] == 0


@pytest.fixture
def prometheus(http, reserve_port, tmp_path):
    """A Prometheus server that scrapes the daemon every 200 ms; its address."""
    port = reserve_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
        "scrape_configs:\n"
        "  - job_name: sluice\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{http.port}']}}]\n"
    )
    with (tmp_path / "prometheus.log").open("w") as log:
        server_process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
             f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"],
            stdout=log, stderr=log,
        )  # fmt: skip
    yield f"http://127.0.0.1:{port}"
    server_process.terminate()
    try:
        server_process.wait(20)
    except subprocess.TimeoutExpired:
        server_process.kill()
        server_process.wait(10)


def ask(address, query):
    url = f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            found = json.load(answer)
    except OSError:
        return []
    assert found["status"] == "success"
    return found["data"]["result"]


@pytest.mark.programs("prometheus", "promtool")
def test_a_real_prometheus_scrapes_the_daemon(daemon, prometheus, http, sluice):
    command, endpoint, _ = daemon
    sent = sluice("emulate", "wafers", "--to", endpoint, "--rate", 2000, "--seconds", 0.5, "--json")
    assert json.loads(sent.out)["acknowledged"] == 1000
    http.settled(command, 1000)
    deadline = time.monotonic() + 30
    total = []
    while time.monotonic() < deadline:
        total = ask(prometheus, "sum(sluice_events_total)")
        if total and float(total[0]["value"][1]) == 1000:
            break
        time.sleep(0.2)
    assert total, "prometheus has no sluice_events_total"
    assert float(total[0]["value"][1]) == 1000
    (up,) = ask(prometheus, 'up{job="sluice"}')
    assert up["value"][1] == "1"
    (info,) = ask(prometheus, "sluice_run_info")
    assert info["metric"]["run"] == "42"
    query = 'histogram_quantile(0.5, sluice_event_latency_seconds_bucket{from="event"})'
    (median,) = ask(prometheus, query)
    assert 0 < float(median["value"][1]) < 5
    stages = {
        sample["metric"]["stage"]
        for sample in ask(prometheus, "sluice_stage_service_seconds_count")
    }
    assert {"unpack", "encode", "menu"} <= stages
    page = http.get("/metrics")[1]
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=page, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for name in METRICS:
        assert re.search(rf"^{name}[{{ ]", page, re.MULTILINE), name
    command.signal(signal.SIGTERM)
    assert command.finish(30).code == 0
