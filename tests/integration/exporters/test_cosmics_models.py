"""The cosmics nets: made by the commands in small, and as good as their cards say."""

import pytest

pytest.importorskip("onnxruntime")

from sluice.exporters.families import EvaluateOptions, TrainOptions, get
from sluice.exporters.families.cosmics import data, evaluating, exporting
from sluice.exporters.inference import runner
from sluice.pipeline.errors import ConfigError
from sluice.pipeline.repository import find_model

RECIPE = """
seed = 3
workers = 1
events = 1200
validation = 0.2
"""
NET = """
[nets.{name}]
sees = {sees}
channels = [2, 2, 2, 4, 4]
hidden = [8, 4]
dropout = 0.1
seeds = 2
schedule = {{ epochs = 1, rate = 1e-3, batch = 64 }}
"""
NETS = {
    "cosmics": ["z", "phi", "hodoscope"],
    "cosmics-strips": ["z", "phi"],
    "cosmics-bars": ["hodoscope"],
}


@pytest.mark.train
def test_train_export_evaluate(tmp_path, monkeypatch):
    for package in ("torch", "onnx", "onnxscript"):
        pytest.importorskip(package)
    monkeypatch.setattr(exporting, "EVENTS", 800)
    monkeypatch.setattr(evaluating, "EVENTS", 800)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE + "".join(NET.format(name=n, sees=s) for n, s in NETS.items()))
    family, checkpoints = get("cosmics"), tmp_path / "checkpoints"
    losses = family.train(TrainOptions(checkpoints, recipe=recipe))
    assert set(losses) == {f"{name}-{k}" for name in NETS for k in (0, 1)}
    assert family.train(TrainOptions(checkpoints, recipe=recipe, resume=True)) == losses
    with pytest.raises(ConfigError, match="another recipe"):
        family.train(TrainOptions(checkpoints, recipe=recipe, resume=True, seed=4))
    family.export(checkpoints, tmp_path / "models")
    monkeypatch.setenv("SLUICE_MODELS", str(tmp_path / "models"))
    found = family.evaluate(EvaluateOptions())
    assert set(found["models"]) == set(found["trainings"]) == set(NETS)
    for name, sees in NETS.items():
        assert [tensor.name for tensor in find_model(name).manifest.inputs] == sees
    with pytest.raises(ConfigError, match="--plots"):
        family.evaluate(EvaluateOptions(plots=tmp_path))


@pytest.fixture(scope="module")
def found():
    sample = data.simulated(4_000, 4_712)
    models = {name: find_model(name) for name in NETS}
    return {
        name: (data.figures(runner(one.path), NETS[name], sample), one.manifest.metrics)
        for name, one in models.items()
    }


@pytest.mark.parametrize("name", NETS)
def test_a_net_keeps_its_card_s_promise(found, name):
    got, promised = found[name]
    for kind in ("auc", "auc_two_layers"):
        assert abs(got[kind] - promised[kind]) < 0.02, kind


@pytest.mark.parametrize("kind", ["auc", "auc_two_layers"])
def test_strips_and_bars_together_beat_each_alone(found, kind):
    both, strips, bars = (found[name][0][kind] for name in NETS)
    assert both > bars
    assert both > strips
