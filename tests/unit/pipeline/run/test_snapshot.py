"""What the report says of numbers that are put into the meters by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sluice.kernels.histogram import BUCKETS, record
from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.metrics.reference_band import ReferenceBand
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.quarantine import Quarantine
from sluice.pipeline.run.snapshot import LatencyTotals

#: Width of a bucket of the histograms, relative.
_BUCKET = 0.032


@pytest.fixture
def graph(words_schema):
    return build_graph(load_graph("hgcal"), words_schema, ("event_id",))


@pytest.fixture
def accounting(graph):
    return RunAccounting(graph, 7, Quarantine(None, graph.inputs))


def test_quantiles_of_the_latency():
    counts = np.zeros(BUCKETS, np.uint64)
    ages_ns = np.arange(1, 10_001) * 1000
    for age_ns in ages_ns:
        record(counts, int(age_ns), 1)
    report = LatencyTotals(
        counts=counts, max_ns=10_000_000, sum_ns=int(ages_ns.sum()), clock="CLOCK_TAI"
    ).report()
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
        assert report[name] == pytest.approx(share * 10e-3, rel=_BUCKET)
    assert (report["max"], report["clock"]) == (10e-3, "CLOCK_TAI")


def test_no_quantile_is_above_the_maximum():
    counts = np.zeros(BUCKETS, np.uint64)
    record(counts, 1_000_000, 5)
    latency = LatencyTotals(counts=counts, max_ns=1_000_000, sum_ns=5_000_000, clock="")
    assert max(latency.report()[name] for name in ("p50", "p99", "p999")) <= 1e-3


def _record(block, name, value):
    (meter,) = (
        meter
        for known, meter in zip(block.monitors, block.monitor_meters(), strict=True)
        if known == name
    )
    meter.record(np.full(200, value, np.float32))


@pytest.mark.parametrize(("value", "alarm"), [(0.5, False), (0.3, True), (0.7, True)])
def test_a_monitor_out_of_its_band_raises_an_alarm(accounting, graph, value, alarm):
    block = MeterBlock(*graph.meter_names())
    name = block.monitors[0]
    accounting.add_meters(block)
    _record(block, name, value)
    assert "band" not in accounting.snapshot().report()[name]
    accounting.set_reference_bands({name: ReferenceBand(0.4, 0.6)})
    now = accounting.snapshot()
    assert now.report()[name]["alarm"] is alarm
    assert now.report()[name]["band"] == (0.4, 0.6)
    assert now.monitors_out_of_band == ([name] if alarm else [])


@pytest.mark.parametrize("remote", [False, True])
def test_meters_of_every_worker_are_added(accounting, graph, remote):
    """Those of a worker of another host too."""
    for values in (30, 12):
        block = MeterBlock(*graph.meter_names())
        (accounting.add_remote_worker if remote else accounting.add_meters)(block)
        block.monitor_meters()[0].record(np.full(values, 0.5, np.float32))
    assert accounting.snapshot().report()[block.monitors[0]]["n"] == 42


def test_a_batch_that_has_failed_is_not_in_flight(accounting):
    columns = {"event_id": np.arange(4, dtype=np.uint64), "t_ingest": np.zeros(4, np.int64)}
    for seq in range(3):
        accounting.record_offered(EventBatch(columns, 4, seq))
    accounting.record_failed(EventBatch(columns, 4, 1), "engine", "no worker is left")
    now = accounting.snapshot()
    assert (now.in_flight, now.events["failed"], now.events["offered"]) == (2, 4, 12)


def test_a_resumed_run_has_the_paths_of_its_attempts(accounting, graph):
    counts = [0] * len(Outcome)
    counts[Outcome.ACCEPTED] = 9
    accounting.resume(CommitRecord(counts=tuple(counts), next=3, paths={0: 4, 1: 5, 63: 2}), [])
    report = accounting.snapshot().report()
    assert list(report["paths"].values())[:2] == [4, 5]
    assert report["pass_through"] == 2
    assert report["resumed"] == {"events": 9, "batches": 3}
