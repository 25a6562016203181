"""Accepted events are those of the paths and those of pass-through alone, with none left over."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.config.graph_file import parse_graph
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.schema import Column, Schema
from sluice.pipeline.execution.chain import Chain
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.quarantine import Quarantine

GRAPH = """
[graph]
name = "bands"
[source]
use = "recording"
path = "none.arrows"
[[stage]]
use = "menu"
pass_through = {pass_through}
{paths}
[sink]
use = "null"
"""
#: Lowest and highest x of a path, and its prescale.
BANDS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from([1, 2, 10])), max_size=5
)
FRACTIONS = st.sampled_from([0.0, 0.01, 0.5, 1.0])


def path_table(number, band):
    low, high, prescale = band
    return (
        f'[[stage.path]]\nname = "p{number}"\nwhere = "x >= {low} and x < {high}"\n'
        f"prescale = {prescale}"
    )


def run(bands, pass_through, values):
    """Run a menu of bands on values; return the decisions, the outcomes and the report."""
    paths = "\n".join(path_table(number, band) for number, band in enumerate(bands))
    text = GRAPH.format(pass_through=pass_through, paths=paths or "path = []")
    config = parse_graph(text, "bands.toml")
    source = Schema((Column("event_id", "uint64"), Column("x", "float32")))
    graph = build_graph(config, source, ("decision", "outcome"))
    chain = Chain(graph, MeterBlock(*graph.meter_names()), "all")
    chain.open()
    batch = EventBatch(
        {"event_id": np.arange(len(values), dtype=np.uint64), "x": np.array(values, np.float32),
         "t_ingest": np.zeros(len(values), np.int64)}, len(values),
    )  # fmt: skip
    kept, summary = chain.run(batch.select(graph.inputs.names), 0)
    accounting = RunAccounting(graph, 1, Quarantine(None, graph.inputs))
    accounting.record_offered(batch)
    accounting.record_committed(batch, summary)
    decision, outcome = kept["decision"].copy(), kept["outcome"].copy()
    chain.close()
    return decision, outcome, accounting.snapshot().report()


VALUES = st.lists(st.integers(0, 9), min_size=1, max_size=60)


@given(BANDS, FRACTIONS, VALUES)
def test_accepted_is_the_events_of_paths_and_those_of_pass_through_alone(bands, fraction, values):
    decision, outcome, report = run(bands, fraction, values)
    by_path = (decision & np.uint64(2**63 - 1)) != 0
    assert report["pass_through"] == np.count_nonzero((decision != 0) & ~by_path)
    assert report["events"]["accepted"] == np.count_nonzero(by_path) + report["pass_through"]
    assert report["events"]["accepted"] == np.count_nonzero(outcome == Outcome.ACCEPTED)


@given(st.lists(st.integers(0, 9), unique=True, max_size=5), FRACTIONS, VALUES)
def test_accepted_is_the_sum_of_paths_that_exclude_each_other(lows, fraction, values):
    bands = [(low, low + 1, 1) for low in lows]
    _, _, report = run(bands, fraction, values)
    assert report["events"]["accepted"] == sum(report["paths"].values()) + report["pass_through"]
