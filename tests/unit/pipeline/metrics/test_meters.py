"""Meters in a file: what one process writes, another reads, and sums over workers are exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.kernels.histogram import bucket_of, edges
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.metrics.totals import monitor_totals, stage_report, stage_totals

STAGES, MONITORS = ["a", "b"], ["m"]


def times(*ns):
    return np.array(ns, np.int64)


def test_a_reader_sees_what_the_writer_counts(tmp_path):
    writer = MeterBlock(STAGES, MONITORS, tmp_path / "w.meters")
    reader = MeterBlock(STAGES, MONITORS, tmp_path / "w.meters", create=False)
    writer.record_stages(100, times(0, 5_000, 25_000, 125_000))
    total = stage_totals([reader])["a"]
    assert (total.events, total.batches, total.service_ns, total.wait_ns) == (100, 1, 20_000, 5_000)
    assert total.service[bucket_of(20_000)] == 1
    assert total.wait[bucket_of(5_000)] == 1
    second = stage_totals([reader])["b"]
    assert (second.service_ns, second.wait_ns) == (100_000, 0)
    with pytest.raises(ValueError, match="read-only"):
        reader.rows[0, 0] = 1


def test_a_successor_goes_on_where_a_writer_was_killed(tmp_path):
    path = tmp_path / "w.meters"
    times = np.array([0, 10, 20, 30], np.int64)
    for _ in range(2):
        MeterBlock(["a", "b"], [], path).record_stages(5, times)
    reader = MeterBlock(["a", "b"], [], path, create=False)
    totals = stage_totals([reader])
    assert {name: (total.events, total.batches) for name, total in totals.items()} == {
        "a": (10, 2), "b": (10, 2),
    }  # fmt: skip


DURATIONS = st.integers(0, 10**10)
RECORDS = st.lists(st.tuples(st.integers(0, 10**6), DURATIONS, DURATIONS, DURATIONS), max_size=20)


@given(st.lists(RECORDS, min_size=1, max_size=3))
def test_sums_over_workers_are_exact(workers):
    blocks = []
    for records in workers:
        block = MeterBlock(STAGES, MONITORS)
        for events, wait, first, second in records:
            block.record_stages(events, times(0, wait, wait + first, wait + first + second))
        blocks.append(block)
    everything = [record for records in workers for record in records]
    totals = stage_totals(blocks)
    for name, service in (("a", 2), ("b", 3)):
        total = totals[name]
        assert total.events == sum(record[0] for record in everything)
        assert total.batches == len(everything)
        assert total.service_ns == sum(record[service] for record in everything)
        counts = np.zeros_like(total.service)
        for record in everything:
            counts[bucket_of(record[service])] += 1
        np.testing.assert_array_equal(total.service, counts)
    assert totals["a"].wait_ns == sum(record[1] for record in everything)
    report = stage_report(totals)
    assert set(report) == {"a", "b"}
    if everything:
        values = sorted(record[2] for record in everything)
        median = values[(len(values) - 1) // 2]
        upper = edges()[bucket_of(median)]
        assert report["a"]["service_s"]["p50"] <= upper * 1.0001


def test_clocks_that_step_back_count_as_nothing():
    block = MeterBlock(["a"], [])
    block.record_stages(1, times(100, 50, 20))
    total = stage_totals([block])["a"]
    assert (total.service_ns, total.wait_ns) == (0, 0)
    assert total.batches == 1


def test_monitor_report():
    block = MeterBlock([], ["m"])
    (meter,) = block.monitor_meters()
    assert monitor_totals([block])["m"].report() == {
        "mean": None, "std": None, "recent": None, "p50": None, "p99": None, "n": 0, "dropped": 0,
    }  # fmt: skip
    meter.record(np.linspace(0, 1, 1001, dtype=np.float32))
    meter.record(np.empty(0, np.float32))
    meter.drop(9)
    report = monitor_totals([block, block])["m"].report()
    assert (report["n"], report["dropped"]) == (2002, 18)
    assert report["mean"] == pytest.approx(0.5, abs=1e-4)
    assert report["p50"] == pytest.approx(0.5, rel=0.05)
    assert report["p99"] == pytest.approx(0.99, rel=0.05)


def test_no_stages_and_no_monitors(tmp_path):
    block = MeterBlock([], [], tmp_path / "w.meters")
    block.record_stages(5, times(0, 0))
    assert stage_totals([block]) == {}
    assert monitor_totals([block]) == {}
