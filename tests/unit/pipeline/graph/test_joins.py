"""Every column is checked before anything starts; only what is needed travels."""

from __future__ import annotations

import pytest

from sluice.pipeline.config.graph_file import parse_graph
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, T_INGEST, Column, Schema
from sluice.pipeline.graph.graph import build_graph

KEPT = ("event_id", "t_event", "packed", "sum_q", "score", "decision")


@pytest.fixture
def build(hgcal, to_toml):
    def make(source, *, kept=KEPT, change=lambda tables: None):
        tables = hgcal()
        change(tables)
        return build_graph(parse_graph(to_toml(tables), "my.toml"), source, kept)

    return make


def refusal(call):
    with pytest.raises(ConfigError) as caught:
        call()
    return str(caught.value)


def test_hgcal_on_words(build, words_schema):
    graph = build(words_schema)
    assert not any(join.bypassed for join in graph.joins)
    assert set(graph.inputs.names) == {"event_id", "t_event", "words"}
    assert graph.outputs.names == KEPT
    assert graph.outputs["score"].labels == ("electromagnetic", "hadronic", "pileup")
    assert graph.paths() == ["electromagnetic", "hadronic", "pileup_monitor"]


def test_hgcal_on_charges_enters_behind_unpack(build, charge_schema):
    graph = build(charge_schema)
    assert [join.stage for join in graph.joins if join.bypassed] == ["unpack"]
    assert "unpack" not in [stage.name for stage in graph.stages]
    assert set(graph.inputs.names) == {"event_id", "t_event", "charge"}


def test_words_win_over_recorded_charges(build, words_schema):
    """A stage whose inputs are there runs: the recorded column is not used and does not travel."""
    graph = build(words_schema.merge([Column("charge", "float32", (48,), "ADC")]))
    assert not any(join.bypassed for join in graph.joins)
    assert set(graph.inputs.names) == {"event_id", "t_event", "words"}


def test_columns_nobody_wants_do_not_travel(build, words_schema):
    graph = build(words_schema.merge([Column("truth", "uint8"), Column("big", "float64", (999,))]),
                  kept=("event_id",))  # fmt: skip
    assert set(graph.inputs.names) == {"event_id", "words"}
    assert graph.outputs.names == ("event_id",)


def test_columns_only_the_sink_wants_travel(build, words_schema):
    graph = build(words_schema.merge([Column("truth", "uint8")]), kept=("truth", "words"))
    assert set(graph.inputs.names) == {"event_id", "words", "truth"}
    assert graph.outputs.names == ("truth", "words")


@pytest.mark.parametrize(
    ("column", "got"),
    [
        (None, "no such column"),
        (Column("words", "uint32", (11,)), "uint32[11]"),
        (Column("words", "uint32"), "uint32"),
        (Column("words", "float32", (12,)), "float32[12]"),
        (Column("words", "uint32", (3, 4)), "uint32[3,4]"),
    ],
)
def test_first_join(build, column, got):
    source = Schema((EVENT_ID, T_EVENT, T_INGEST, *([column] if column else [])))
    text = refusal(lambda: build(source))
    for word in ("my.toml", "'unpack'", "'words'", "expected uint32[12]", f"got {got}"):
        assert word in text


def test_a_join_inside(build, words_schema):
    def narrow(tables):
        tables["stage"][3]["use"] = "infer"  # a tagger before there is what it reads
        tables["stage"][3] = {"use": "infer", "name": "early", "model": "wafer-tagger"}

    text = refusal(lambda: build(words_schema, change=narrow))
    for word in ("'early'", "'latent_q'", "expected float32[16]", "no such column"):
        assert word in text


def test_a_mapped_join_of_another_shape(build, words_schema):
    def mapped(tables):
        tables["stage"][2]["inputs"] = {"image": "charge"}

    text = refusal(lambda: build(words_schema, change=mapped))
    for word in ("'encode'", "'charge'", "expected float32[8,8]", "got float32[48]"):
        assert word in text


def test_unknown_tensors_are_refused(build, words_schema):
    def mapped(tables):
        tables["stage"][2]["inputs"] = {"imag": "charge"}

    assert "did you mean 'image'?" in refusal(lambda: build(words_schema, change=mapped))


def test_menu_on_what_is_not_there(build, words_schema):
    def where(text):
        def change(tables):
            tables["stage"][5]["path"][0]["where"] = text

        return refusal(lambda: build(words_schema, change=change))

    assert "did you mean 'score'?" in where("scor.hadronic > 1")
    assert "did you mean 'hadronic'?" in where("score.hadron > 1")
    assert "'menu'" in where("nothing > 1")
    assert "'electromagnetic'" in where("nothing > 1")


def test_monitor_and_sink_joins(build, charge_schema, words_schema):
    text = refusal(lambda: build(words_schema, kept=("event_id", "scores")))
    assert "sink" in text
    assert "did you mean 'score'?" in text

    def no_pack(tables):
        tables["stage"] = tables["stage"][:3]

    text = refusal(lambda: build(words_schema, kept=("event_id",), change=no_pack))
    for word in ("'emd'", "'latent_q'", "expected float32[16]"):
        assert word in text


def test_unknown_parts(build, words_schema, parts):
    def use(name):
        def change(tables):
            tables["stage"][0]["use"] = name

        return refusal(lambda: build(words_schema, change=change))

    assert "did you mean 'wafer.unpack'?" in use("wafer.unpak")
    assert "no_such_module_anywhere" in use("test.broken")
    assert "Nothing" in use("test.nothing")


def test_a_graph_without_stages_passes_columns_on(build, words_schema):
    def bare(tables):
        tables["stage"], tables["monitor"] = [], []

    graph = build(words_schema, kept=("event_id", "words"), change=bare)
    assert graph.stages == ()
    assert set(graph.inputs.names) == {"event_id", "words"}
