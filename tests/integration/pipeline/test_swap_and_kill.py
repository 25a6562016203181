"""Workers are killed with batches of one epoch while the next is pending, and once it has begun.

Each event must have the columns that the model of its recorded epoch gives, bit by bit.
"""

from __future__ import annotations

import json
import threading
import time
import tomllib
from contextlib import closing

import numpy as np
import pytest
import tomli_w

import sluice as package
from sluice.pipeline.core.batch import concatenate
from sluice.pipeline.recording import RecordingReader
from sluice.pipeline.service.client import Client

EVENTS, BATCH = 4000, 100
TAGGERS = ("wafer-tagger", "wafer-tagger-half")
SCORED = ["packed", "latent_q", "sum_q", "score", "outcome", "decision", "prescale"]
COLUMNS = ["event_id", *SCORED, "batch_seq", "epoch"]


@pytest.fixture
def graph(make_graph):
    """Write the graph with a tagger, and with a stage that takes 0.1 s for a batch, or none."""

    def make(tagger, *, slow=False):
        delay = [{"use": "test.delay", "name": "slow", "seconds": 0.1}] if slow else []
        path = make_graph(
            f"{tagger}-{slow}", first=delay,
            sink={"use": "recording", "keep": "all", "columns": COLUMNS},
            graph={"batch_events": BATCH, "window": 16},
        )  # fmt: skip
        tables = tomllib.loads(path.read_text())
        tables["monitor"] = []
        for stage in tables["stage"]:
            if stage["name"] == "tag":
                stage["model"] = tagger
        path.write_text(tomli_w.dumps(tables))
        return path

    return make


@pytest.fixture
def swap(http):
    """Request a swap in a thread; return the thread, and a list for the answer."""

    def begin():
        answer = []
        client = Client(f"127.0.0.1:{http.port}")

        def ask():
            answer.append(client.post("swap", timeout_s=60, stage="tag", model=TAGGERS[1])["done"])

        thread = threading.Thread(target=ask)
        thread.start()
        return thread, answer

    return begin


def read_all(path):
    with closing(RecordingReader(path)) as reader:
        return concatenate(list(reader.batches()))


def settled(http):
    counts = json.loads(http.get("/status")[1])["report"]["events"]
    return sum(counts.values()) - counts["offered"]


def test_each_event_is_scored_by_the_model_of_its_recorded_epoch(
    launch, http, graph, swap, make_recording, tmp_path, load_report
):
    source = make_recording(tmp_path / "w.arrows", EVENTS, batch=BATCH)
    command = launch(
        "replay", source, "--graph", graph(TAGGERS[0], slow=True), "--workers", 2,
        "--report", tmp_path / "r.json", "--out", tmp_path / "o.arrows",
        "--http", f"127.0.0.1:{http.port}",
    )  # fmt: skip
    http.settled(command, 300)
    first, second = command.workers()
    second.suspend()  # so that it cannot answer: the next epoch is pending
    thread, answer = swap()
    time.sleep(0.2)
    first.kill()
    deadline = time.monotonic() + 20
    while len(set(command.workers()) - {first}) < 2:  # until its successor is there
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not answer
    second.resume()
    thread.join(60)
    (begun,) = answer
    old_events = settled(http)
    for worker in command.workers():
        worker.kill()
    assert old_events < begun["seq"] * BATCH  # batches of the epoch before were in flight
    done = command.finish()
    assert done.code == 0, done
    report = load_report(tmp_path / "r.json")
    assert report["events"]["failed"] == 0
    assert sum(report["restarts"].values()) == 3
    (swapped,) = report["swaps"]
    assert swapped["seq"] == begun["seq"]
    truths = [scored(source, graph, name) for name in TAGGERS]
    check(read_all(tmp_path / "o.arrows"), truths, swapped)


def scored(source, graph, tagger):
    """Return all events as the inline engine judges them with one tagger."""
    result = package.run(graph(tagger), source, columns=COLUMNS, keep="all")
    return concatenate(list(result._batches))


def check(found, truths, swapped):
    np.testing.assert_array_equal(found["event_id"], np.arange(1, EVENTS + 1))
    epoch = (found["batch_seq"] >= swapped["seq"]).astype(found["epoch"].dtype)
    np.testing.assert_array_equal(found["epoch"], epoch)
    assert int(found["event_id"][epoch == 1][0]) == swapped["first_event"]
    assert 0 < epoch.mean() < 1
    for number, truth in enumerate(truths):
        mine = epoch == number
        for name in SCORED:
            np.testing.assert_array_equal(found[name][mine], truth[name][mine], err_msg=name)
        other = truths[1 - number]
        assert (truth["score"][mine] != other["score"][mine]).any(axis=1).mean() > 0.99
