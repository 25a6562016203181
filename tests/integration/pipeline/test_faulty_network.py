"""Remote workers behind a faulty network, over several runs: what is recorded is the truth."""

from __future__ import annotations

import re
import time
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from sluice.pipeline.service.client import Client
from sluice.pipeline.transport.protocol import decode, encode

from .fault_proxy import FaultProxy, Faults

COLUMNS = ["event_id", "packed", "sum_q", "score", "outcome", "decision", "epoch"]
SINK = {"use": "recording", "keep": "all", "columns": COLUMNS}
EVENTS = 4_000
#: Every run has this number, as after a lost state folder.
RUN = 7
CHAIN = [{"stages": ["slow", "unpack", "normalise", "encode"], "compute": 1},
         {"stages": ["pack", "tag", "menu"], "compute": 0}]  # fmt: skip
NETWORK = Faults(delay=0.2, delay_s=0.2, duplicate=0.1, replay=0.1)


@pytest.fixture
def network(reserve_port):
    """Start proxies to ingest and to the sink; each run gets the messages of earlier ones."""
    join, results = (f"tcp://127.0.0.1:{reserve_port()}" for _ in range(2))
    proxies = []
    earlier = [{"up": [], "down": []} for _ in range(2)]

    def to_proxy(frames):
        """Make workers send their results to the proxy."""
        header, payload = decode(frames)
        other = proxies[-1].endpoint.encode()
        parts = [bytes(part).replace(results.encode(), other) for part in payload]
        return [bytes(frame) for frame in encode(header, *parts)]

    def start(faults, seed):
        for proxy, messages in zip(proxies[-2:], earlier, strict=False):
            for direction in messages:
                messages[direction] += proxy.recorded[direction]
        ingest = FaultProxy(join, faults, seed, earlier=earlier[0], rewrite=to_proxy)
        proxies.append(ingest)
        proxies.append(FaultProxy(results, faults, seed + 1, earlier=earlier[1]))
        return proxies[-2:]

    yield join, results, start
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def run(launch, sluice, http, make_graph, make_recording, network, tmp_path, load_report):
    """Make one run with two remote workers behind the proxies; return report, recording, truths."""
    join, results, start = network

    def make(number, *, workers, swap=False, faults=NETWORK, silence=False):
        events = make_recording(tmp_path / f"{number}-in.arrows", EVENTS, seed=number)
        slow = [{"use": "test.delay", "name": "slow", "seconds": 0.05}]
        table = {"listen": join, "results": results, "hang_timeout": "3 s", **workers}
        graph = make_graph(f"g{number}", first=slow, sink=SINK, graph={"batch_events": 100},
                           workers=table)  # fmt: skip
        out, report = tmp_path / f"{number}.arrows", tmp_path / f"{number}.json"
        proxies = start(faults, number)
        command = launch(
            "replay", events, "--graph", graph, "--report", report, "--out", out, "--run", RUN,
            "--http", f"127.0.0.1:{http.port}", env={"SLUICE_STATE": str(tmp_path / f"s{number}")},
        )  # fmt: skip
        workers = [launch("worker", proxies[0].endpoint, "--name", f"remote-{i}", "--patience", 60)
                  for i in range(2)]  # fmt: skip
        http.ready(command)
        if swap:
            http.settled(command, 300)
            client = Client(f"127.0.0.1:{http.port}")
            client.post("swap", stage="tag", model="wafer-tagger-half", timeout_s=60)
        if silence:
            http.settled(command, 500)
            for proxy in proxies:
                proxy.silence()
        done = command.finish(120)
        assert done.code == 0, done
        for worker in workers:
            worker.end()
        truths = [_truth(sluice, make_graph, events, tagger, tmp_path / f"{number}-{tagger}")
                  for tagger in ("wafer-tagger", "wafer-tagger-half")[: 1 + swap]]  # fmt: skip
        return load_report(report), _table(out), truths, proxies

    return make


def _truth(sluice, make_graph, events, tagger, path):
    graph = make_graph(path.name, sink=SINK, graph={"batch_events": 100})
    text = re.sub(r'model = "wafer-tagger"', f'model = "{tagger}"', graph.read_text())
    graph.write_text(text)
    out = path.with_suffix(".arrows")
    done = sluice("replay", events, "--graph", graph, "--engine", "inline", "--out", out)
    assert done.code == 0, done
    return _table(out)


def _table(path):
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_stream(file).read_all()


def _assert_right(report, recorded, truths):
    """Compare every event with what the inline engine makes of it with the models of its epoch."""
    assert report["closed"]
    assert report["events"]["offered"] == EVENTS == recorded.num_rows
    epoch = recorded["epoch"].to_numpy()
    assert set(epoch.tolist()) <= set(range(len(truths)))
    for number, truth in enumerate(truths):
        rows = pa.array(np.flatnonzero(epoch == number))
        for column in COLUMNS[:-1]:
            ours, theirs = (t[column].combine_chunks().take(rows) for t in (recorded, truth))
            assert ours.equals(theirs), (column, number)


def test_messages_late_twice_out_of_order_and_of_earlier_runs_change_no_event(run):
    """Three runs of one number: also with local workers, remote ones alone and a swap, a chain."""
    injected = Counter()
    for number, options in enumerate(
        [{"workers": {"compute": 1}}, {"workers": {"compute": 0}, "swap": True},
         {"workers": {"chain": CHAIN}}], 1,
    ):  # fmt: skip
        report, recorded, truths, proxies = run(number, **options)
        _assert_right(report, recorded, truths)
        injected += sum((proxy.injected for proxy in proxies), Counter())
    assert min(injected[kind] for kind in ("delay", "duplicate", "replay")) > 5


def test_a_network_that_falls_silent_costs_no_event(run):
    began = time.monotonic()
    report, recorded, truths, _ = run(1, workers={"compute": 1}, faults=Faults(), silence=True)
    _assert_right(report, recorded, truths)
    assert time.monotonic() - began < 100
