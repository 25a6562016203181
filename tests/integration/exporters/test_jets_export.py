"""From no jets at all to models that are measured: small, but all of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sluice.exporters.conversion.onnx_runner import runner
from sluice.exporters.families.base import EvaluateOptions, TrainOptions, get
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.inference.repository import find_model

pytestmark = [
    pytest.mark.train,
    pytest.mark.timeout(300),
    pytest.mark.modules("pythia8mc", "fastjet", "onnxscript", "mplhep", "torch"),
]

RECIPE = """
seed = 3
jets = 384
chunk = 24
workers = 1
seeds = 2
net = { width = 8, depth = 1 }
narrow = { width = 4, depth = 1 }
schedule = { epochs = 2, rate = 1e-2, batch = 32, keep_last = true }
adversary = { width = 4, components = 3, weight = 1.0 }
disco = { weight = 1.0 }
scan = { adversary = [0.5], disco = [0.5] }
"""


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "jets.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def checkpoints(once: Callable[[str, Callable[[Path], None]], Path], recipe: Path) -> Path:
    def train(folder: Path) -> None:
        losses = get("jets").train(TrainOptions(folder, recipe=recipe))
        assert len(losses) == 2 * 7 + 2
        assert np.isfinite(list(losses.values())).all()

    return once("jets-checkpoints", train)


@pytest.mark.long
def test_export_and_evaluation_agree(checkpoints, tmp_path, monkeypatch):
    folders = get("jets").export(checkpoints, tmp_path / "models")
    assert all(path.exists() for path in folders)
    monkeypatch.setenv("SLUICE_MODELS", str(tmp_path / "models"))
    found = get("jets").evaluate(EvaluateOptions(plots=tmp_path / "plots"))
    json.dumps(found)
    for name, figures in found["table"].items():
        assert figures["rejection"] >= 1.0, name
        assert {"auc_spread", "rejection_spread", "inverse_jsd_spread"} <= set(figures)
    # What a manifest says is what an evaluation finds, and ONNX gives what torch does.
    for name, measured in found["models"].items():
        assert find_model(name).manifest.metrics == pytest.approx(measured, abs=1e-6), name
    trainings = find_model("jet-tagger-adversarial").manifest.trainings
    assert trainings == pytest.approx({**found["table"]["adversarial"], "seeds": 2})
    assert len(found["models"]) == 7
    held_out = find_model("jet-tagger-parametrised").manifest.trainings
    (row,) = (row for row in found["masses"] if row["held_out"])
    assert held_out == pytest.approx({**row["parametrised-adversarial"], "seeds": 2})
    assert {row["resonance"] for row in found["masses"]} == {60, 80, 100, 125, 150, 175}
    assert [row["resonance"] for row in found["masses"] if row["held_out"]] == [125]
    assert len(list((tmp_path / "plots").glob("jets-*.png"))) == 5


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_smaller_numbers_keep_the_rejection(precision):
    small = find_model(f"jet-tagger-disco-{precision}")
    found = small.manifest.metrics
    assert abs(found["rejection_loss"]) < 0.05 * found["rejection"]
    assert abs(found["auc_loss"]) < 0.005
    inputs, outputs = small.golden()
    whole = runner(find_model("jet-tagger-disco").path)(inputs["observables"])
    assert np.abs(whole - outputs["signal"]).max() < 0.1


@pytest.mark.long
def test_a_resumed_training_keeps_its_jets_and_its_recipe(checkpoints, recipe, tmp_path):
    checkpoints = shutil.copytree(checkpoints, tmp_path / "copy")
    chunk = next((checkpoints / "chunks-3").glob("*.npz"))
    before = chunk.stat().st_mtime_ns
    get("jets").train(TrainOptions(checkpoints, recipe=recipe, resume=True))
    assert chunk.stat().st_mtime_ns == before
    other = tmp_path / "other.toml"
    other.write_text(RECIPE.replace("seeds = 2", "seeds = 1"))
    with pytest.raises(ConfigError, match="another recipe"):
        get("jets").train(TrainOptions(checkpoints, recipe=other, resume=True))
    with pytest.raises(ConfigError, match="another recipe"):
        get("jets").train(TrainOptions(checkpoints, recipe=recipe, seed=4, resume=True))
    assert not (checkpoints / "chunks-4").exists()


def test_measured_events_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="expected none"):
        get("jets").evaluate(EvaluateOptions(data=tmp_path))
