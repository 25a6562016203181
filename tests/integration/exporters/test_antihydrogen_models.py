"""The antihydrogen nets: made by the commands in small, and as good as their cards say."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from sluice.pipeline.inference.repository import find_model

pytest.importorskip("onnxruntime")

from sluice.exporters.cli import register
from sluice.exporters.conversion.onnx_runner import runner
from sluice.exporters.families.antihydrogen import data, evaluate, metrics

RECIPE = """
seed = 3
workers = 2
events = 1500
validation = 0.2
shift = [-100, 347]
[nets.antihydrogen]
channels = [2, 2, 2, 4, 4]
hidden = [8, 4]
dropout = 0.1
shifted = true
seeds = 2
schedule = { epochs = 1, rate = 1e-3, batch = 64 }
[nets.antihydrogen-unshifted]
channels = [2, 2, 2, 4, 4]
hidden = [8, 4]
dropout = 0.1
shifted = false
seeds = 1
schedule = { epochs = 1, rate = 1e-3, batch = 64 }
"""


@pytest.fixture
def command():
    app = typer.Typer()
    register(app)

    def run(*arguments):
        result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


@pytest.mark.long
@pytest.mark.train
@pytest.mark.modules("torch", "onnx", "onnxscript", "matplotlib", "mplhep")
def test_train_export_evaluate(command, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "EVENTS", 800)
    checkpoints, models, plots = tmp_path / "checkpoints", tmp_path / "models", tmp_path / "plots"
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    losses = command("train", "antihydrogen", "--recipe", recipe, "--out", checkpoints, "--json")
    trained = {"antihydrogen-0", "antihydrogen-1", "antihydrogen-unshifted-0"}
    assert set(json.loads(losses)) == trained
    again = command(
        "train", "antihydrogen", "--recipe", recipe, "--out", checkpoints, "--resume", "--json"
    )
    assert json.loads(again) == json.loads(losses)
    command("export", "antihydrogen", "--checkpoints", checkpoints, "--out", models)
    monkeypatch.setenv("SLUICE_MODELS", str(models))
    spread = find_model("antihydrogen").manifest.trainings
    assert spread["seeds"] == 2
    assert 0 < spread["auc_two_layers_spread"] < 0.3
    events = tmp_path / "events.csv"
    events.write_text("\n".join(" ".join(map(str, row)) for row in rows(40)))
    found = json.loads(
        command("evaluate", "antihydrogen", "--data", events, "--plots", plots, "--json")
    )
    assert found["given"]["events"] == 40
    assert set(found["toy"]["models"]) >= {"antihydrogen", "antihydrogen-int8", "antihydrogen-fp16"}
    assert sum(found["toy"]["coverage"].values()) == pytest.approx(1)
    for folder in models.iterdir():
        promised = find_model(folder.name).manifest.metrics
        assert promised == pytest.approx(found["models"][folder.name], abs=1e-6), folder.name
    for name in ("toy", "curves", "areas"):
        assert (plots / f"antihydrogen-{name}.png").stat().st_size > 5_000


def rows(events):
    sample = data.simulated(events, 8, hit=True)
    bits = np.unpackbits(sample.strips, axis=1)[:, :1430]
    return np.concatenate([sample.truth[:, None], bits], axis=1)


@pytest.fixture(scope="module")
def sample():
    return data.simulated(4_000, 4_711)


@pytest.mark.parametrize("name", ["antihydrogen", "antihydrogen-unshifted", "antihydrogen-half"])
def test_a_net_is_as_good_as_its_card_says_and_beats_the_vertex_finding(name, sample):
    model = find_model(name)
    found = evaluate.areas(runner(model.path), sample)
    promised = model.manifest.metrics
    for kind in ("auc_vertex", "auc_without", "auc_two_layers"):  # other events: 4 standard errors
        error = np.hypot(found[f"{kind}_error"], promised[f"{kind}_error"])
        assert abs(found[kind] - promised[kind]) < 4 * error < 0.1, kind
    assert found["auc_vertex"] > metrics.baseline(sample)["auc_vertex"] + 0.03


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_smaller_numbers_cost_next_to_nothing(precision, sample):
    whole, small = (find_model(name) for name in ("antihydrogen", f"antihydrogen-{precision}"))
    scores = [metrics.scores(runner(model.path), sample) for model in (whole, small)]
    areas = [metrics.by_coverage(score, sample)["auc_two_layers"] for score in scores]
    assert abs(areas[0] - areas[1]) < 0.01
    assert small.path.stat().st_size < 0.6 * whole.path.stat().st_size


@pytest.mark.data(*(f"antihydrogen/{name}" for name in data.FILES))
def test_real_events_that_no_training_saw_are_classified():
    real = data.joined([data.real(name) for name in data.FILES])
    found = metrics.by_coverage(metrics.scores(runner(find_model("antihydrogen").path), real), real)
    assert found["auc_two_layers"] > 0.72
    assert found["auc_vertex"] > metrics.baseline(real)["auc_vertex"] - 0.05
