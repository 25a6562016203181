"""What holds for every model family, by its being there: simulation, graph, models, cards."""

import re
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from sluice.benchmarks.families import family_graphs
from sluice.exporters.families import base
from sluice.exporters.simulation.record import record
from sluice.pipeline.config.graph_file import ComponentConfig
from sluice.pipeline.inference.repository import find_family_models
from sluice.pipeline.run.run_numbers import UNNUMBERED
from sluice.pipeline.service.run_graph import run_graph
from sluice.pipeline.service.session import RunOptions

_ROOT = Path(__file__).resolve().parents[3]
_OURS = [name for name in base.names() if (_ROOT / "exporters" / "families" / name).is_dir()]
_GRAPHS = {graph.graph.name: graph for graph in family_graphs()}
_MODELS = {one.manifest.name: one for name in _OURS for one in find_family_models(name)}
EVENTS, SEED = 600, 11

every_family = pytest.mark.parametrize("name", _OURS)
every_model = pytest.mark.parametrize("model", list(_MODELS.values()), ids=list(_MODELS))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    made = {}

    def simulated(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name) / "events.arrows"
            record(base.get(name), EVENTS, SEED, made[name], processes=1)
        return made[name]

    return simulated


@every_family
def test_events_have_the_schema_s_columns_and_depend_on_the_seed(name):
    family = base.get(name)
    first, again, other = (family.block(50, seed, 0) for seed in (SEED, SEED, SEED + 1))
    assert set(first) == set(family.schema.names)
    assert {"event_id", "t_event", "truth"} <= set(first)
    assert first["event_id"].tolist() == list(range(50))
    assert set(np.unique(first["truth"])) <= set(range(len(family.labels)))
    for column in family.schema:
        assert first[column.name].tolist() == again[column.name].tolist()
    raw = [c.name for c in family.schema if c.name not in ("event_id", "t_event", "truth")]
    assert any(first[column].tolist() != other[column].tolist() for column in raw)


@every_family
def test_a_graph_and_a_page_belong_to_it(name):
    assert name in {graph.graph.family for graph in _GRAPHS.values()}
    pages = [path.read_text() for path in (_ROOT / "docs").rglob("*.md")]
    assert any(
        f"sluice evaluate {name}" in page and f"sluice train {name}" in page for page in pages
    )


@pytest.mark.parametrize("graph", list(_GRAPHS.values()), ids=list(_GRAPHS))
def test_a_replay_of_simulated_events_closes(graph, recordings, tmp_path):
    source = ComponentConfig("recording", "events", {"path": str(recordings(graph.graph.family))})
    options = {**graph.sink.options, "path": str(tmp_path / "kept.arrows")}
    config = replace(graph, source=source, sink=replace(graph.sink, options=options))
    report = run_graph(config, RunOptions(run=UNNUMBERED, engine="inline"))
    assert report["closed"], report
    assert report["events"]["offered"] == EVENTS
    assert report["events"]["failed"] == report["events"]["invalid"] == 0
    decided = ("accepted", "rejected", "prescaled")
    assert sum(report["events"][outcome] for outcome in decided) == EVENTS


@every_model
@pytest.mark.modules("onnxruntime")
def test_a_model_gives_its_golden_outputs_and_is_small(model):
    from sluice.exporters.conversion.onnx_runner import runner

    inputs, outputs = model.golden()
    (expected,) = outputs.values()
    got = runner(model.path)(*(inputs[tensor.name] for tensor in model.manifest.inputs))
    np.testing.assert_allclose(got, expected, atol=model.manifest.tolerance, rtol=0)
    assert model.path.stat().st_size < 1e6


@every_model
def test_a_card_says_where_a_model_comes_from(model):
    manifest = model.manifest
    assert len(manifest.description) > 20
    assert manifest.training.dataset
    assert manifest.training.events > 0
    assert re.fullmatch(r"[0-9a-f]{64}", manifest.training.dataset_sha256)
    assert re.fullmatch(r"[0-9a-f]{64}", manifest.training.recipe_sha256)
    for number in manifest.card.published:
        assert number.metric in manifest.metrics, number.metric
    if manifest.precision != "fp32":
        whole = _MODELS[manifest.name.removesuffix(f"-{manifest.precision}")].manifest
        assert whole.inputs == manifest.inputs
        assert any(metric.endswith("_loss") for metric in manifest.metrics)


@every_family
def test_published_numbers_stand_beside_ours(name):
    cards = [model.manifest.card for model in find_family_models(name)]
    measured = [card for card in cards if card.reference and card.shortcomings]
    assert measured
    # Where papers show curves alone, a card says so.
    none = any("no published number" in text for card in measured for text in card.shortcomings)
    assert none or any(card.published for card in measured)
