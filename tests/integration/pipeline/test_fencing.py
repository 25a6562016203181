"""What a process of an earlier run, or one that never joined, sends has no effect on a run."""

from __future__ import annotations

import json
import signal
import time

import numpy as np
import pytest
import zmq

from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.config.plugins import build
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.journal.batch_record import pack_batch_record
from sluice.pipeline.transport.batch_summary import BatchSummary, pack_summary
from sluice.pipeline.transport.codec import Codec
from sluice.pipeline.transport.protocol import Session, encode
from sluice.pipeline.transport.run_messages import Result

COLUMNS = ["event_id", "packed", "sum_q", "score", "outcome", "decision"]
SINK = {"use": "recording", "keep": "all", "columns": COLUMNS}
EVENTS, BATCH_EVENTS = 2_000, 200


@pytest.fixture
def ports(reserve_port):
    """Where workers join, and where their results come."""
    return reserve_port(), reserve_port()


@pytest.fixture
def open_graph(make_graph, ports):
    """A graph whose run listens for workers of this host; every batch takes `seconds`."""

    def make(name="open", seconds=0.0, compute=0):
        delay = [{"use": "test.delay", "name": "slow", "seconds": seconds}] if seconds else []
        workers = {
            "compute": compute, "hang_timeout": "3 s",
            "listen": f"tcp://127.0.0.1:{ports[0]}", "results": f"tcp://127.0.0.1:{ports[1]}",
        }  # fmt: skip
        graph = {"batch_events": BATCH_EVENTS}
        return make_graph(name, first=delay, sink=SINK, graph=graph, workers=workers)

    return make


@pytest.fixture
def recordings(make_recording, tmp_path):
    """Two recordings with the same event ids and other content."""
    return [make_recording(tmp_path / f"in{seed}.arrows", EVENTS, seed=seed) for seed in (1, 2)]


@pytest.fixture
def replay(launch, http, tmp_path):
    def start(recording, graph, name):
        return launch(
            "replay", recording, "--graph", graph, "--report", tmp_path / f"{name}.json",
            "--out", tmp_path / f"{name}.arrows", "--http", f"127.0.0.1:{http.port}",
        )  # fmt: skip

    return start


@pytest.fixture
def join(launch, ports):
    def start(name):
        return launch(
            "worker", f"tcp://127.0.0.1:{ports[0]}", "--patience", 60, "--name", name
        )  # fmt: skip

    return start


@pytest.fixture
def truth(sluice, open_graph, tmp_path):
    """Return the recording that the inline engine makes of an input."""

    def make(recording):
        out = tmp_path / "truth.arrows"
        done = sluice(
            "replay", recording, "--graph", open_graph("truth"), "--engine", "inline",
            "--out", out, "--report", tmp_path / "truth.json",
        )  # fmt: skip
        assert done.code == 0, done
        return out

    return make


def workers(count):
    return lambda status, text: (
        status == 200 and json.loads(text)["report"]["remote_workers"] == count
    )


def test_a_worker_that_sleeps_through_to_the_next_run_has_no_effect_on_it(
    http, replay, join, open_graph, recordings, truth, tmp_path, load_report, assert_same_recording
):
    first = replay(recordings[0], open_graph("one", 0.3), "one")
    sleeper = join("sleeper")
    http.until("/status", workers(1), first)
    time.sleep(0.4)  # it has batches now
    sleeper.signal(signal.SIGSTOP)
    helper = join("helper")
    assert first.finish(90).code == 0
    assert helper.finish(20).code == 0
    second = replay(recordings[1], open_graph("two", 0.3), "two")
    other = join("other")
    http.until("/status", workers(1), second)
    sleeper.signal(signal.SIGCONT)
    ended = sleeper.finish(30)
    assert ended.code == 5, ended
    assert "ingest: no message for 3 s" in ended.err  # what ingest of the first run told it
    assert second.finish(90).code == 0
    assert other.finish(20).code == 0
    report = load_report(tmp_path / "two.json")
    assert report["protocol_errors"] > 0
    assert report["events"]["failed"] == 0
    assert assert_same_recording(tmp_path / "two.arrows", truth(recordings[1])) == EVENTS


def output_schema(graph):
    """Return the columns of a graph's results."""
    config = load_graph(str(graph))
    source, sink = (
        build(kind, getattr(config, kind), config.origin) for kind in ("source", "sink")
    )
    return build_graph(config, source.schema, sink.columns).outputs


def forged_result(schema, seq, session):
    """Return the frames of a RESULT that is right but for its token, of events that never were."""
    columns = {column.name: np.zeros_like(column.empty(BATCH_EVENTS)) for column in schema}
    columns["event_id"] = np.arange(9_000_000, 9_000_000 + BATCH_EVENTS, dtype=np.uint64)
    counts = np.zeros(len(Outcome), np.int64)
    counts[Outcome.ACCEPTED] = BATCH_EVENTS
    record = pack_batch_record(seq, columns["event_id"], counts.tolist(), 0, 0)
    summary = pack_summary(BatchSummary(counts.tobytes(), bytes(512), 1, [], record))
    result = Result(seq, BATCH_EVENTS, processed_events=BATCH_EVENTS, token=seq)
    kept = Codec(schema).pack(EventBatch(columns, BATCH_EVENTS, seq))
    return encode(result.to_header().of(session), summary, kept)


@pytest.fixture
def stranger(ports):
    """A socket at the results' endpoint of a process that never joined."""
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(f"tcp://127.0.0.1:{ports[1]}")
    yield socket
    socket.close()
    context.term()


def test_results_of_a_process_that_never_joined_are_refused(
    http, replay, open_graph, recordings, stranger, truth, tmp_path, load_report,
    assert_same_recording,
):  # fmt: skip
    graph = open_graph("forged", 0.2, compute=1)
    schema = output_schema(open_graph("schema"))
    # Sent before the run is there: they wait in the socket and come first.
    forged = [forged_result(schema, seq, Session(run, 7)) for seq in range(100) for run in (0, 1)]
    for frames in forged:
        stranger.send_multipart(frames)
    run = replay(recordings[0], graph, "forged")
    assert run.finish(90).code == 0
    report = load_report(tmp_path / "forged.json")
    assert report["protocol_errors"] == len(forged)
    assert assert_same_recording(tmp_path / "forged.arrows", truth(recordings[0])) == EVENTS
