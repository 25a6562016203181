"""The cosmics nets: made by the commands in small, and as good as their cards say."""

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from sluice.exporters.conversion.onnx_runner import runner
from sluice.exporters.evaluation.classifier import roc
from sluice.exporters.families.base import EvaluateOptions, TrainOptions, get
from sluice.exporters.families.cosmics import data, evaluate, metrics
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.inference.repository import find_model

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
@pytest.mark.modules("torch", "onnx", "onnxscript", "matplotlib", "mplhep")
def test_train_export_evaluate(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "EVENTS", 800)
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
    assert family.evaluate(EvaluateOptions(plots=tmp_path / "plots")) == found
    assert set(found["models"]) == set(NETS)
    for name, measured in found["models"].items():
        manifest = find_model(name).manifest
        assert manifest.metrics == pytest.approx(measured, abs=1e-6), name
        assert manifest.trainings["seeds"] == 2
        assert manifest.trainings["auc_spread"] > 0
    for name, sees in NETS.items():
        assert [tensor.name for tensor in find_model(name).manifest.inputs] == sees
    for name in ("curves", "muons"):
        assert (tmp_path / "plots" / f"cosmics-{name}.png").stat().st_size > 5_000
    with pytest.raises(ConfigError, match="--data"):
        family.evaluate(EvaluateOptions(data=tmp_path))


@pytest.fixture(scope="module")
def found():
    sample = data.simulated(4_000, 4_712)
    made = {}
    for name, sees in NETS.items():
        one = find_model(name)
        score = data.scores(runner(one.path), sees, sample)
        made[name] = evaluate.measured(score, sample), one.manifest.metrics
    return made


@pytest.mark.parametrize("name", NETS)
def test_a_net_is_as_good_as_its_card_says(found, name):
    got, promised = found[name]
    for kind in ("auc", "auc_two_layers"):
        error = np.hypot(got[f"{kind}_error"], promised[f"{kind}_error"])
        assert abs(got[kind] - promised[kind]) < 4 * error, kind  # other events


def test_a_curve_passes_where_the_figures_say():
    sample, model = data.simulated(2_000, 4_713), find_model("cosmics")
    score = data.scores(runner(model.path), NETS["cosmics"], sample)
    found = metrics.figures(score, sample)
    for suffix, rows in metrics.selections(sample).items():
        losses, wins = roc(score[rows], sample.truth[rows] == 1)
        assert np.trapezoid(wins, losses) == pytest.approx(found[f"auc{suffix}"])
        events = rows.sum()
        kept = np.interp([metrics.KEPT - 3 / events, metrics.KEPT + 3 / events], wins, losses)
        assert kept[0] <= found[f"muons_kept{suffix}"] <= kept[1]


@pytest.mark.parametrize("kind", ["auc", "auc_two_layers"])
def test_strips_and_bars_together_beat_each_alone(found, kind):
    both, strips, bars = (found[name][0][kind] for name in NETS)
    assert both > bars
    assert both > strips
