"""The inline engine keeps few events of many batches: each has the columns of its own batch.

Small results wait for their group while the stages reuse their arrays for the next batches.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from sluice.pipeline.config.graph_file import parse_graph
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import DECISION_RECORD_COLUMNS
from sluice.pipeline.execution.chain import Chain
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.tools.in_memory_run import run

BATCH_EVENTS = 40
#: Durations, which no two runs have in common.
TIMES = {"wait_ns", "service_ns"}
RECORD = (column.name for column in DECISION_RECORD_COLUMNS if column.name not in TIMES)
COLUMNS = ("event_id", "t_event", "words", "latent_q", "packed", "sum_q", "score", "outcome",
           "decision", *RECORD)  # fmt: skip


@pytest.fixture
def config(hgcal, to_toml):
    """The shipped graph in small batches, of which it keeps a fifth."""
    tables = hgcal()
    tables["graph"] |= {"batch_events": BATCH_EVENTS, "window": 64}
    tables["monitor"] = []
    for stage in tables["stage"]:
        stage.pop("ladder", None)
    tables["stage"][-1]["path"] = [
        {"name": "a", "where": "score.electromagnetic > 0.9", "prescale": 4},
        {"name": "b", "where": "score.hadronic > 0.97", "prescale": 2.5},
        {"name": "c", "where": "score.pileup > 0.9", "prescale": 3},
    ]
    return parse_graph(to_toml(tables), "small.toml")


def batch_by_batch(config, schema, wafers):
    """Return what a chain keeps, each batch copied before the next one is processed."""
    graph = build_graph(config, schema, COLUMNS)
    chain = Chain(graph, MeterBlock(*graph.meter_names(), shadows=[]), "accepted")
    chain.open()
    kept = []
    for seq, first in enumerate(range(0, wafers.events, BATCH_EVENTS)):
        part = wafers.slice(first, min(first + BATCH_EVENTS, wafers.events))
        batch = EventBatch(part.select(graph.inputs.names).columns, part.events, seq)
        found, _ = chain.run(batch, time.monotonic_ns())
        kept.append({name: found[name].copy() for name in COLUMNS})
    chain.close()
    return kept


def test_every_column_is_that_of_the_events_batch(config, words_schema, wafers):
    truth = batch_by_batch(config, words_schema, wafers)
    sizes = [len(part["event_id"]) for part in truth]
    assert max(sizes) < BATCH_EVENTS // 4  # all are small
    assert len({size for size in sizes if size}) > 2
    source = {name: wafers[name] for name in ("event_id", "t_event", "words")}
    table = run(config, source, columns=COLUMNS, keep="accepted").to_arrow()
    for name in COLUMNS:
        expected = np.concatenate([part[name] for part in truth])
        found = np.array(table[name].to_pylist(), expected.dtype)
        np.testing.assert_array_equal(found, expected, err_msg=name)
    for several in ("batch_seq", "prescale", "decision"):
        assert len(table[several].unique()) > 1
