"""Decision records say how each kept event was decided; an oracle goes event by event."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sluice.kernels.menu import smallest_prescale
from sluice.pipeline.config.graph_file import parse_graph
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.schema import DECISION_RECORD_COLUMNS
from sluice.pipeline.execution.chain import Chain
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.metrics.meters import MeterBlock

KEPT = ("event_id", "outcome", "decision", *(column.name for column in DECISION_RECORD_COLUMNS))


@pytest.fixture
def tables(hgcal):
    tables = hgcal()
    tables["graph"]["batch_events"] = 100
    tables["monitor"] = []
    return tables


@pytest.fixture
def open_chain(to_toml, words_schema, parts):
    """Open a chain, run batches through it, return copies of what it keeps."""
    chains = []

    def make(tables, *, keep="accepted", kept=KEPT):
        graph = build_graph(parse_graph(to_toml(tables), "my.toml"), words_schema, kept)
        chain = Chain(graph, MeterBlock(*graph.meter_names()), keep)
        chain.open()
        chains.append(chain)

        def run(batch, **facts):
            part = EventBatch(batch.select(graph.inputs.names).columns, batch.events, batch.seq)
            got, _ = chain.run(part, time.monotonic_ns(), **facts)
            copies = {name: array.copy() for name, array in got.columns.items()}
            return EventBatch(copies, got.events, got.seq)

        return run

    yield make
    for chain in chains:
        chain.close()


def arrived(wafers, ages_ns):
    """Return the wafers as if they had come so many ns ago."""
    return wafers.with_columns(t_ingest=time.monotonic_ns() - np.asarray(ages_ns, np.int64))


@pytest.mark.parametrize("keep", ["accepted", "all"])
@pytest.mark.parametrize("stage", [None, {"use": "test.trap", "name": "trap", "ids": [7, 8]}])
def test_every_kept_event_has_its_batch_and_times(open_chain, tables, wafers, keep, stage):
    if stage:
        tables["stage"].insert(2, stage)
    run = open_chain(tables, keep=keep)
    for seq, (start, stop) in enumerate([(0, 100), (100, 130), (130, 131), (131, 500)]):
        ages = 10**7 * np.arange(stop - start)
        before = time.monotonic_ns()
        batch = arrived(wafers.slice(start, stop), ages)
        batch = EventBatch(batch.columns, batch.events, seq)
        got = run(batch, rung=seq % 3, epoch=1000 * seq)
        took = time.monotonic_ns() - before
        assert (got["batch_seq"] == seq).all()
        assert (got["batch_events"] == stop - start).all()
        assert (got["rung"] == seq % 3).all()
        assert (got["epoch"] == 1000 * seq).all()
        assert got["service_ns"].min(initial=1) > 0
        rows = got["event_id"].astype(int) - 1 - start
        waited = got["wait_ns"] - ages[rows]
        assert waited.min(initial=0) >= 0
        assert (waited + got["service_ns"]).max(initial=0) <= took
        assert len(np.unique(waited)) <= 1  # all began at the same time
        if keep == "accepted":
            assert (got["outcome"] == Outcome.ACCEPTED).all()
        else:
            assert got.events == stop - start
        for column in DECISION_RECORD_COLUMNS:
            assert got[column.name].dtype == column.dtype


def test_prescale_is_the_smallest_of_the_paths_that_kept_the_event(open_chain, tables, wafers):
    tables["stage"][-1] |= {
        "pass_through": 0.1,
        "path": [
            {"name": "a", "where": "score.electromagnetic > 0.1", "prescale": 3},
            {"name": "b", "where": "score.pileup > 0.1", "prescale": 7.5},
            {"name": "c", "where": "score.hadronic > 0.3"},
        ],
    }
    got = open_chain(tables, keep="all")(wafers)
    prescales = {0: 3.0, 1: 7.5, 2: 1.0, 63: 10.0}
    for decision, prescale in zip(got["decision"].tolist(), got["prescale"].tolist(), strict=True):
        bits = [bit for bit in range(64) if decision >> bit & 1]
        assert prescale == min((prescales[bit] for bit in bits), default=0), bits
    assert set(np.unique(got["prescale"]).tolist()) == {0, 1, 3, 7.5, 10}


def test_without_a_menu_every_prescale_is_one(open_chain, tables, wafers):
    del tables["stage"][-1]
    got = open_chain(tables)(wafers)
    assert got.events == 500
    assert (got["prescale"] == 1).all()


def test_only_what_is_asked_for_is_computed_and_sent(
    open_chain, tables, wafers, to_toml, words_schema
):
    got = open_chain(tables, kept=("event_id", "rung", "batch_seq"))(wafers)
    assert set(got.columns) == {"event_id", "rung", "batch_seq"}
    config = parse_graph(to_toml(tables), "my.toml")
    assert "t_ingest" not in build_graph(config, words_schema, ("service_ns",)).inputs
    assert "t_ingest" in build_graph(config, words_schema, ("wait_ns",)).inputs


def test_a_source_s_own_record_is_not_taken_for_this_run_s(
    open_chain, tables, wafers, to_toml, words_schema
):
    source = words_schema.merge(DECISION_RECORD_COLUMNS)
    graph = build_graph(parse_graph(to_toml(tables), "my.toml"), source, KEPT)
    assert not {column.name for column in DECISION_RECORD_COLUMNS} & set(graph.inputs.names)


def test_the_menu_s_version_changes_with_every_part_of_it(tables, to_toml, words_schema):
    def version():
        menu_stage = build_graph(
            parse_graph(to_toml(tables), "my.toml"), words_schema, ()
        ).decision_stage()
        return menu_stage.menu_info()["version"]

    menu = tables["stage"][-1]
    seen = [version(), version()]
    assert seen[0] == seen[1]
    for change in (
        lambda: menu.update(pass_through=0.002),
        lambda: menu["path"][0].update(where="score.electromagnetic > 0.91"),
        lambda: menu["path"][0].update(prescale=2),
        lambda: menu["path"][0].update(name="other"),
        lambda: menu["path"].reverse(),
        lambda: menu.update(name="other"),
    ):
        change()
        seen.append(version())
    assert len(set(seen)) == len(seen) - 1


def test_smallest_prescales_against_an_oracle():
    rng = np.random.default_rng(3)
    decision = rng.integers(0, 2**64, 1000, np.uint64) & rng.integers(0, 2**64, 1000, np.uint64)
    decision[:65] = [0, *(1 << bit for bit in range(64))]
    prescale = rng.uniform(1, 1000, 64).astype(np.float32)
    out = np.empty(1000, np.float32)
    smallest_prescale(decision, prescale, out)
    for bits, got in zip(decision.tolist(), out.tolist(), strict=True):
        assert got == min((prescale[b] for b in range(64) if bits >> b & 1), default=0)
    with pytest.raises(ValueError, match="smallest_prescale"):
        smallest_prescale(decision, prescale[:63].copy(), out)
    with pytest.raises(ValueError, match="smallest_prescale"):
        smallest_prescale(decision, prescale, out[:9].copy())
