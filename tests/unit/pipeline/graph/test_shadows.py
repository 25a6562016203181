"""Shadows: what they count, and that nothing of theirs reaches the decisions."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.kernels.counting import count_overlap
from sluice.pipeline.config.graph_file import parse_graph
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError, ModelError
from sluice.pipeline.execution.chain import Chain
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.graph.shadows import Shadow
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.metrics.shadow_meter import WORDS, ShadowMeter, shadow_overlap
from sluice.pipeline.metrics.totals import shadow_report

BITS = st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=20)


@given(BITS)
def test_overlap_of_paths_is_that_of_sets(pairs):
    decision = np.array([a for a, _ in pairs], np.uint64)
    other = np.array([b for _, b in pairs], np.uint64)
    counts = np.zeros((64, 3), np.int64)
    count_overlap(decision, other, counts)
    for bit in range(64):
        mine = {i for i, (a, _) in enumerate(pairs) if a >> bit & 1}
        theirs = {i for i, (_, b) in enumerate(pairs) if b >> bit & 1}
        expected = [len(mine & theirs), len(mine - theirs), len(theirs - mine)]
        assert counts[bit].tolist() == expected


def test_overlap_refuses_what_does_not_fit():
    one, two = np.zeros(1, np.uint64), np.zeros(2, np.uint64)
    with pytest.raises(ValueError, match="equal lengths"):
        count_overlap(one, two, np.zeros((64, 3), np.int64))
    with pytest.raises(ValueError, match=r"counts \(64, 3\)"):
        count_overlap(one, one, np.zeros((3, 64), np.int64))


def test_meters_add_up_over_processes():
    rows = [np.zeros(WORDS, np.uint64) for _ in range(2)]
    first, second = (ShadowMeter(row) for row in rows)
    decision, outcome = np.array([1, 3, 0, 2], np.uint64), np.array([1, 1, 2, 1], np.uint8)
    other, would = np.array([1, 0, 2, 2], np.uint64), np.array([1, 2, 1, 3], np.uint8)
    for _ in range(2):
        first.compare(decision, outcome, (other, would))
    second.compare(other, would, (decision, outcome))
    second.drop(5)
    second.fail("ArithmeticError: " + "é" * 400)
    second.fail("later")
    second.skip(7)
    report = shadow_overlap(rows, ["a", "b"])
    assert (report["seen"], report["dropped"], report["errors"]) == (12, 12, 2)
    assert report["off"].startswith("ArithmeticError: éé")
    assert report["accepted"] == {"both": 3, "gained": 4, "lost": 5}
    assert report["paths"]["a"] == {"both": 3, "only_production": 2, "only_shadow": 1}
    assert report["paths"]["b"] == {"both": 3, "only_production": 3, "only_shadow": 3}


def graph_with(hgcal, to_toml, words_schema, **options):
    tables = hgcal()
    for stage in tables["stage"]:
        if stage.get("name") == "tag":
            stage |= options
    tables["monitor"] = []
    config = parse_graph(to_toml(tables), "test")
    return build_graph(config, words_schema, ("event_id", "decision"))


def run(graph, wafers, times=1):
    block = MeterBlock(*graph.meter_names(), shadows=graph.shadow_names())
    chain = Chain(graph, block, "all")
    chain.open()
    kept = []
    for seq in range(times):
        columns = {name: wafers.columns[name] for name in graph.inputs.names}
        kept.append(chain.run(EventBatch(columns, wafers.events, seq), 0)[0]["decision"].copy())
    chain.close()
    return kept, shadow_report([block], graph.paths())


def test_a_shadow_that_is_the_model_agrees(hgcal, to_toml, words_schema, wafers):
    plain, _ = run(graph_with(hgcal, to_toml, words_schema), wafers)
    graph = graph_with(hgcal, to_toml, words_schema, shadow=["wafer-tagger"])
    kept, report = run(graph, wafers, 3)
    assert all((decisions == plain[0]).all() for decisions in kept)
    (found,) = report.values()
    assert list(report) == ["tag/wafer-tagger@1"]
    assert (found["errors"], found["off"]) == (0, None)
    assert found["seen"] + found["dropped"] == 3 * wafers.events
    assert found["accepted"]["gained"] == found["accepted"]["lost"] == 0
    assert found["accepted"]["both"] > 0
    for path in found["paths"].values():
        assert path["only_production"] == path["only_shadow"] == 0


def test_a_sample_is_seen(hgcal, to_toml, words_schema, wafers):
    graph = graph_with(
        hgcal, to_toml, words_schema, shadow=["wafer-tagger@1"], shadow_sample=0.2
    )  # fmt: skip
    _, report = run(graph, wafers)
    assert 0.1 * wafers.events < report["tag/wafer-tagger@1"]["seen"] < 0.3 * wafers.events


@pytest.mark.parametrize("where", ["load", "observe"])
def test_a_broken_shadow_is_off_and_the_run_goes_on(
    where, hgcal, to_toml, words_schema, wafers, monkeypatch
):
    plain, _ = run(graph_with(hgcal, to_toml, words_schema), wafers)
    graph = graph_with(hgcal, to_toml, words_schema, shadow=["wafer-tagger"])
    if where == "load":

        def load(self, events):
            raise ModelError("golden outputs differ")

        monkeypatch.setattr(Shadow, "load", load)
    else:

        def process(batch):
            raise ArithmeticError("sprung")

        monkeypatch.setattr(graph.shadows[0]._stages[0], "process", process)
    kept, report = run(graph, wafers, 2)
    assert all((decisions == plain[0]).all() for decisions in kept)
    found = report["tag/wafer-tagger@1"]
    assert (found["seen"], found["errors"]) == (0, 1)
    assert found["dropped"] == 2 * wafers.events
    word = "golden outputs differ" if where == "load" else "ArithmeticError: sprung"
    assert word in found["off"]


def test_a_slow_shadow_sees_less_and_slows_nothing(
    hgcal, to_toml, words_schema, wafers, monkeypatch
):
    graph = graph_with(hgcal, to_toml, words_schema, shadow=["wafer-tagger"])
    stage = graph.shadows[0]._stages[0]
    process = stage.process

    def slow(batch):
        time.sleep(0.05)
        return process(batch)

    monkeypatch.setattr(stage, "process", slow)
    batches = 200
    block = MeterBlock(*graph.meter_names(), shadows=graph.shadow_names())
    chain = Chain(graph, block, "all")
    chain.open()
    columns = {name: wafers.columns[name] for name in graph.inputs.names}
    began = time.monotonic()
    for seq in range(batches):
        chain.run(EventBatch(columns, wafers.events, seq), 0)
    took = time.monotonic() - began
    chain.close()
    (found,) = shadow_report([block], graph.paths()).values()
    assert took < batches * 0.05 / 2
    assert found["seen"] + found["dropped"] == batches * wafers.events
    assert found["dropped"] > 0
    assert found["errors"] == 0


@pytest.mark.parametrize(
    ("shadow", "error", "words"),
    [
        (["wafer-tagger@9"], ModelError, "expected a version of"),
        (["wafer-encoder-9b"], ModelError, "inputs: expected those of wafer-tagger/1"),
        (["wafer-tagger", "wafer-tagger@1"], ConfigError, "two shadows are tag/wafer-tagger@1"),
    ],
)
def test_what_cannot_be_a_shadow_is_refused(shadow, error, words, hgcal, to_toml, words_schema):
    with pytest.raises(error, match=words):
        graph_with(hgcal, to_toml, words_schema, shadow=shadow)


def test_without_a_menu_there_is_nothing_to_compare(hgcal, to_toml, words_schema):
    tables = hgcal()
    tables["stage"] = [s for s in tables["stage"] if s["use"] != "menu"]
    tables["monitor"] = []
    tables["stage"][-1]["shadow"] = ["wafer-tagger"]
    with pytest.raises(ConfigError, match="expected a menu after the stage"):
        build_graph(parse_graph(to_toml(tables), "test"), words_schema, ("event_id",))
