"""Events with NaN or infinity fail alone and are counted, or are kept and counted."""

from __future__ import annotations

import numpy as np
import pytest

from sluice.pipeline.config.graph_file import parse_graph
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import Column, Schema
from sluice.pipeline.execution.chain import Chain
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.metrics.totals import stage_totals

STAGES = """
import numpy as np
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import Column, Schema
from sluice.pipeline.stages.function import stage

X, LIST = Column("x", "float32"), Column("lists", "float32", (None,))
PREPARED = Schema([Column("y", "{dtype}", (2,)), Column("unread", "float32")])

@stage(consumes=Schema([X]), provides=PREPARED)
def prepare(x):
    return np.stack([x, -x], axis=1).astype("{dtype}"), np.full(len(x), np.nan, np.float32)

@stage(consumes=Schema([Column("y", "{dtype}", (2,))]), provides=Schema([Column("z", "float32")]))
def after(y):
    assert np.isfinite(y).all()
    return y[:, 0].astype(np.float32)

@stage(consumes=Schema([X]), provides=Schema([LIST]))
def lists(x):
    return Ragged.from_counts(np.repeat(x, 3), np.full(len(x), 3))
"""
GRAPH = """
[graph]
name = "mine"
[source]
use = "recording"
path = "none.arrows"
[[stage]]
name = "first"
use = "parts.py:{first}"
on_nonfinite = "{rule}"
{more}
[[stage]]
use = "menu"
[[stage.path]]
name = "all"
where = "not x > 1000"
[sink]
use = "null"
"""
SECOND = '[[stage]]\nname = "second"\nuse = "parts.py:after"\n'
SOURCE = Schema((Column("event_id", "uint64"), Column("x", "float32")))
VALUES = np.array([1, np.nan, 3, np.inf, -np.inf, 6, 7, 8], np.float32)
WRONG = [1, 3, 4]


@pytest.fixture
def build(tmp_path):
    def make(first="prepare", rule="fail", more="", kept=("y",), dtype="float32", where="x"):
        (tmp_path / "parts.py").write_text(STAGES.replace("{dtype}", dtype))
        text = GRAPH.format(first=first, rule=rule, more=more).replace("not x", f"not {where}")
        config = parse_graph(text, str(tmp_path / "graph.toml"))
        return build_graph(config, SOURCE, (*kept, "outcome", "decision"))

    return make


def run(graph, values=VALUES):
    """Return copies of the kept columns, the flags, and the counts of each stage."""
    block = MeterBlock(*graph.meter_names())
    chain = Chain(graph, block, "all")
    chain.open()
    batch = EventBatch(
        {"event_id": np.arange(len(values), dtype=np.uint64), "x": values.copy(),
         "t_ingest": np.zeros(len(values), np.int64)}, len(values),
    )  # fmt: skip
    kept, summary = chain.run(batch.select(graph.inputs.names), 0)
    columns = {name: column.take(np.arange(len(values)), axis=0)
               for name, column in kept.columns.items()}  # fmt: skip
    chain.close()
    found = {name: total.not_finite for name, total in stage_totals([block]).items()}
    return columns, summary.flags, found


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_these_events_fail_and_the_others_go_on(build, dtype):
    kept, flags, found = run(build(more=SECOND, kept=("y", "z"), dtype=dtype, where="z"))
    assert np.flatnonzero(kept["outcome"] == Outcome.FAILED).tolist() == WRONG
    assert [(f.stage, f.reason, f.rows) for f in flags] == [
        ("first", "NaN or infinity in y", WRONG)
    ]
    assert {flag.outcome for flag in flags} == {Outcome.FAILED}
    expected = np.where(np.isfinite(VALUES), VALUES, 0)
    assert kept["y"][:, 0].tolist() == expected.tolist()
    assert kept["z"].tolist() == expected.tolist()  # the second stage saw zeros
    assert kept["outcome"][[0, 2, 5]].tolist() == [Outcome.ACCEPTED] * 3
    assert found == {"first": 3, "second": 0, "menu": 0}


def test_kept_events_go_on_as_they_are_and_nan_is_never_accepted(build):
    kept, flags, found = run(build(rule="keep", where="y[0]"))
    np.testing.assert_array_equal(kept["y"][:, 0], VALUES)
    outcomes = [Outcome.ACCEPTED, Outcome.REJECTED, Outcome.ACCEPTED, Outcome.REJECTED]
    assert kept["outcome"][:4].tolist() == outcomes
    assert kept["outcome"][4] == Outcome.ACCEPTED  # minus infinity is not above 1000
    assert not flags
    assert found == {"first": 3, "menu": 0}


def test_columns_that_nobody_reads_are_not_checked(build):
    _, flags, found = run(build(kept=(), where="event_id"))
    assert (flags, found) == ([], {"first": 0, "menu": 0})
    _, flags, found = run(build(kept=("unread",), where="event_id"))
    assert found == {"first": len(VALUES), "menu": 0}
    assert flags[0].rows == list(range(len(VALUES)))


def test_columns_of_the_source_are_checked_before_the_menu(build):
    kept, flags, found = run(build(kept=()))
    assert np.flatnonzero(kept["outcome"] == Outcome.FAILED).tolist() == WRONG
    assert kept["decision"][WRONG].tolist() == [0, 0, 0]
    assert [(flag.stage, flag.rows) for flag in flags] == [("menu", WRONG)]
    assert found == {"first": 0, "menu": 3}


def test_lists_are_checked_item_by_item(build):
    kept, flags, found = run(build(first="lists", kept=("lists",), where="event_id"))
    assert [flag.rows for flag in flags] == [WRONG]
    expected = [[] if row in WRONG else [VALUES[row]] * 3 for row in range(len(VALUES))]
    assert kept["lists"].tolist() == expected
    assert isinstance(kept["lists"], Ragged)
    assert found["first"] == 3


def test_events_are_counted_once_when_another_event_breaks_a_stage(build, tmp_path):
    graph = build(more=SECOND, kept=("y", "z"), where="z")
    path = tmp_path / "parts.py"
    text = path.read_text().replace(
        "assert np.isfinite(y).all()", "assert not (y == 6).any(), 'six'"
    )
    path.write_text(text)
    graph = build_graph(graph.config, SOURCE, ("y", "z", "outcome", "decision"))
    kept, flags, found = run(graph)
    assert np.flatnonzero(kept["outcome"] == Outcome.FAILED).tolist() == [1, 3, 4, 5]
    assert found == {"first": 3, "second": 0, "menu": 0}
    assert sorted(row for flag in flags for row in flag.rows) == [1, 3, 4, 5]


def test_a_finite_run_counts_nothing(build):
    finite = np.arange(5, dtype=np.float32)
    kept, flags, found = run(build(more=SECOND, kept=("y", "z"), where="z"), finite)
    assert kept["y"][:, 1].tolist() == (-finite).tolist()
    assert (flags, found) == ([], {"first": 0, "second": 0, "menu": 0})


def test_another_rule_is_refused(build):
    with pytest.raises(ConfigError, match=r"stage 0: on_nonfinite: expected 'fail' or 'keep', got"):
        build(rule="ignore")
