"""The models of a ladder's lower rungs belong to a run as its full ones do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.errors import ConfigError, ModelError
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, T_INGEST, Column, Schema
from sluice.pipeline.engine.workers.compute import _require_same_models
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.inference.repository import find_model
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.run.resume import require_same_configuration

WORDS = Schema((EVENT_ID, T_EVENT, T_INGEST, Column("words", "uint32", (12,))))


def graph_with(*ladder):
    config = load_graph("hgcal")
    stages = tuple(
        replace(part, options=part.options | {"ladder": ladder}) if part.name == "tag" else part
        for part in config.stages
    )
    return build_graph(replace(config, stages=stages), WORDS, ())


@pytest.fixture
def graph():
    return graph_with("wafer-tagger-half", "wafer-tagger-quarter", "no-model")


def test_each_rung_with_a_model_is_listed(graph):
    models = graph.models()
    assert sorted(models) == ["encode", "encode/1", "encode/2", "tag", "tag/1", "tag/2"]
    for key, name in (("tag/1", "wafer-tagger-half"), ("tag/2", "wafer-tagger-quarter")):
        assert models[key] == {
            "name": name, "version": "1", "sha256": find_model(name).manifest.sha256,
            "backend": models["tag"]["backend"],
        }  # fmt: skip


def test_the_word_for_no_model_of_the_release_before_is_accepted(graph):
    old = graph_with("wafer-tagger-half", "wafer-tagger-quarter", "cuts")
    assert old.models() == graph.models()
    assert [stage.set_rung(3) for stage in old.ladders] == [False, False]


def test_a_worker_with_another_model_on_a_rung_is_refused(graph):
    models = graph.models()
    _require_same_models(graph, SimpleNamespace(models=models))
    for key in models:
        others = models | {key: models[key] | {"sha256": "0" * 64}}
        with pytest.raises(ModelError, match=f"stage '{key}': the run uses .* 0000"):
            _require_same_models(graph, SimpleNamespace(models=others))


def test_a_run_is_not_resumed_with_another_ladder(graph):
    began = {"run": 7, "config": {}, "models": graph.models(), "paths": [], "menu": None}
    require_same_configuration(began, began, CommitRecord())
    for other in (graph_with("wafer-tagger-half", "no-model"), graph_with()):
        with pytest.raises(ConfigError, match="another models"):
            require_same_configuration(began, began | {"models": other.models()}, CommitRecord())
