"""The numbers of a run are changed by methods of its accounting, and read as a frozen snapshot."""

from __future__ import annotations

import ast
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import sluice
from sluice.kernels.histogram import LARGEST_AGE_NS
from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.journal.batch_record import pack_batch_record
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.ledger import RunTime
from sluice.pipeline.run.quarantine import Quarantine
from sluice.pipeline.sources.base import Losses, Rejected
from sluice.pipeline.transport.batch_summary import BatchSummary

#: Names under which modules hold the accounting of a run.
HELD_AS = {"account", "_account", "accounting", "_accounting"}
MODULES = sorted(
    path for half in ("pipeline", "benchmarks", "exporters")
    for path in Path(sluice.__path__[0], half).rglob("*.py")
)  # fmt: skip


@pytest.fixture
def graph(words_schema):
    return build_graph(load_graph("hgcal"), words_schema, ("event_id",))


@pytest.fixture
def accounting(graph):
    return RunAccounting(graph, 7, Quarantine(None, graph.inputs))


def batch_of(events, seq=0, t_ingest=1000):
    columns = {
        "event_id": np.arange(events, dtype=np.uint64),
        "t_ingest": np.full(events, t_ingest, np.int64),
    }
    return EventBatch(columns, events, seq)


def summary_of(batch, outcome, *, rung=0, t_decided=3000):
    counts = np.zeros(len(Outcome), np.int64)
    counts[outcome] = batch.events
    paths = np.zeros(64, np.int64)
    paths[1] = batch.events
    record = pack_batch_record(batch.seq, batch["event_id"], counts.tolist(), 0, rung)
    return BatchSummary(counts.tobytes(), paths.tobytes(), t_decided, [], record)


def test_nobody_can_set_an_attribute(accounting):
    names = [name for name in dir(accounting) if not name.startswith("_")]
    for name in [*names, "restarts", "anything"]:
        with pytest.raises(AttributeError):
            setattr(accounting, name, 1)


def test_what_a_method_returns_is_not_the_accounting_s_own(accounting):
    accounting.models.clear()
    taken = accounting.snapshot()
    taken.restarts["sink"] = 9
    taken.models.clear()
    assert accounting.snapshot().models == accounting.models != {}
    assert accounting.snapshot().restarts == {}
    with pytest.raises(ValueError, match="read-only"):
        taken.latency.counts[0] = 1
    with pytest.raises(AttributeError):
        taken.run = 8


def _uses(path):
    """Yield line and attribute of each access to an attribute of a run's accounting."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            held = node.value
            name = held.attr if isinstance(held, ast.Attribute) else getattr(held, "id", None)
            if name in HELD_AS:
                yield node.lineno, node.attr, isinstance(node.ctx, ast.Load)


def test_other_modules_only_call_its_methods():
    allowed = {name for name in vars(RunAccounting) if not name.startswith("_")}
    found = [(path, *use) for path in MODULES for use in _uses(path)]
    assert len({path for path, *_ in found}) > 5
    assert [use for use in found if use[2] not in allowed or not use[3]] == []


def test_the_report_has_what_was_recorded(accounting, graph):
    accounting.start(0)
    accounting.add_meters(MeterBlock(*graph.meter_names()))
    accounting.resume(CommitRecord(counts=(0, 5, 0, 0, 0, 0, 0, 0), next=2), [])
    batches = [batch_of(10, 2), batch_of(20, 3), batch_of(3, 4)]
    for batch in batches:
        accounting.record_offered(batch)
    assert accounting.snapshot().in_flight == 3
    assert not accounting.snapshot().closed
    accounting.record_committed(batches[0], summary_of(batches[0], Outcome.ACCEPTED))
    accounting.record_committed(batches[1], summary_of(batches[1], Outcome.REJECTED, rung=1))
    accounting.record_failed(batches[2], "engine", "the sink is gone")
    accounting.record_losses(
        Losses(invalid=[Rejected("here", "no number", b"x", 2)], lost=4, shed=6), "source"
    )
    accounting.record_restart("compute-0")
    accounting.record_restart("compute-0")
    accounting.record_protocol_error()
    accounting.record_refused_connections(3)
    accounting.enter_rung(1, 10)
    accounting.enter_state(RunTime.PAUSED, 2_000_000_000)
    report = accounting.snapshot().report()
    losses = {"invalid": 2, "lost": 4, "shed": 6}
    assert report["events"] == {"offered": 50, "accepted": 15, "rejected": 20, "prescaled": 0,
                                "failed": 3} | losses  # fmt: skip
    assert "closed" not in report  # while a run lasts, its numbers need not add up
    accounting.end()
    assert accounting.snapshot().report()["closed"]
    assert report["seconds"]["wall"] == report["seconds"]["live"] == 2.0
    assert report["rate_hz"] == 22.5
    assert report["resumed"] == {"events": 5, "batches": 2}
    assert report["ladder"]["events"] == [10, 20, 0, 0]
    assert report["ladder"]["rung"] == 1
    assert report["latency_s"]["max"] == 2e-6
    assert list(report["paths"].values())[1] == 30
    assert report["restarts"] == {"compute-0": 2}
    assert report["protocol_errors"] == 1
    assert report["refused_connections"] == 3
    assert report["quarantine"]["reasons"] == {"the sink is gone": 3, "no number": 2}


def test_a_remote_worker_changes_the_clock(accounting, graph):
    assert accounting.snapshot().latency.clock == "CLOCK_MONOTONIC"
    accounting.add_remote_worker(MeterBlock(*graph.meter_names()))
    report = accounting.snapshot().report()
    assert report["latency_s"]["clock"] == "CLOCK_TAI"
    assert report["remote_workers"] == 1


def test_a_swap_changes_the_model_and_waits_for_its_first_event(accounting):
    before = accounting.models["tag"]
    swap = {"epoch": 1, "stage": "tag", "from": before, "to": before | {"version": "9"}, "seq": 4,
            "first_event": None}  # fmt: skip
    accounting.record_swap(swap)
    earlier = accounting.snapshot()
    accounting.record_first_event(batch_of(0))
    accounting.record_first_event(batch_of(3))
    assert accounting.models["tag"]["version"] == "9"
    assert accounting.snapshot().swaps == [swap | {"first_event": 0}]
    assert earlier.swaps == [swap | {"first_event": None}]


def test_a_snapshot_never_shows_half_of_a_batch(accounting):
    """Another thread commits batches of two events; each snapshot has a whole number of them."""
    done = threading.Event()

    def work():
        while not done.is_set():
            batch = batch_of(2)
            accounting.record_offered(batch)
            accounting.record_committed(batch, summary_of(batch, Outcome.ACCEPTED))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(200):
            now = accounting.snapshot()
            assert now.events["offered"] == now.settled + 2 * now.in_flight
            assert now.latency.counts.sum() == now.settled == sum(now.rung_events)
            assert list(now.paths.values())[1] == now.settled
    finally:
        done.set()
        worker.join()


@pytest.mark.parametrize("t_decided", [0, -(2**62), 2**62, 3000])
@pytest.mark.parametrize("one_age", [True, False])
def test_times_that_cannot_be_spoil_no_other_number(accounting, t_decided, one_age):
    """A source or a host whose clock is wrong; the batch before and after are as they were."""
    for seq, t_ingest in enumerate((1000, 0, -1, 2**63 - 1, -(2**63), 1000)):
        batch = batch_of(4, seq, t_ingest)
        if one_age:
            ages = np.ndarray(4, np.int64, np.int64(t_ingest).tobytes(), strides=(0,))
            batch = batch.with_columns(t_ingest=ages)
        accounting.record_offered(batch)
        decided_ns = 3000 if seq in (0, 5) else t_decided
        summary = summary_of(batch, Outcome.ACCEPTED, t_decided=decided_ns)
        accounting.record_committed(batch, summary)
    now = accounting.snapshot()
    assert now.events["accepted"] == now.events["offered"] == 24
    assert now.latency.counts.sum() == 24
    assert 2000 <= now.latency.max_ns <= LARGEST_AGE_NS
    assert 8 * 2000 <= now.latency.sum_ns <= 24 * LARGEST_AGE_NS


def live_batch(t_event, t_ingest):
    t_event = np.array(t_event, np.int64)
    return batch_of(len(t_event), 0, t_ingest).with_columns(t_event=t_event)


def test_the_latency_from_the_event_has_the_wait_before_ingest(accounting):
    """An event waited 40 ms in front of ingest, another 10 ms; two have no Unix time."""
    accounting.expect_stamps()
    now_ns, unix_ns = time.monotonic_ns(), time.time_ns()
    stamps = [unix_ns - 40_000_000, unix_ns - 10_000_000, 12_345, unix_ns + 37_000_000_000]
    batch = live_batch(stamps, now_ns - 1_000_000)
    accounting.record_offered(batch)
    accounting.record_committed(batch, summary_of(batch, Outcome.ACCEPTED, t_decided=now_ns))
    now = accounting.snapshot()
    assert now.latency.counts.sum() == 4
    assert now.latency.max_ns == 1_000_000
    assert now.event_latency.counts.sum() == 2
    # Between the two readings of the clocks a busy machine may do something else.
    assert now.event_latency.max_ns == pytest.approx(40_000_000, abs=5_000_000)
    assert now.event_latency.sum_ns == pytest.approx(50_000_000, abs=10_000_000)
    found = now.report()["event_latency_s"]
    assert found["clock"] == "CLOCK_REALTIME"
    assert found["max"] == now.event_latency.max_ns / 1e9


@pytest.mark.parametrize("live", [True, False])
def test_without_stamps_there_is_no_latency_from_the_event(accounting, live):
    """Front ends that count nanoseconds since their start; recordings, whose stamps are old."""
    if live:
        accounting.expect_stamps()
    stamp_ns = 12_345 if live else time.time_ns() - 1_000_000
    batch = live_batch([stamp_ns] * 3, 1000)
    accounting.record_offered(batch)
    accounting.record_committed(batch, summary_of(batch, Outcome.ACCEPTED))
    assert accounting.snapshot().event_latency is None
    assert accounting.snapshot().report()["event_latency_s"] is None


def test_a_decision_in_the_future_counts_as_one_of_now(accounting):
    began_ns = time.monotonic_ns()
    batch = batch_of(1, 0, began_ns)
    accounting.record_offered(batch)
    accounting.record_committed(batch, summary_of(batch, Outcome.ACCEPTED, t_decided=2**62))
    assert accounting.snapshot().latency.max_ns <= time.monotonic_ns() - began_ns
