"""From training to a model repository: what is written is what was trained."""

import json
import shutil

import numpy as np
import pytest

from sluice.pipeline.errors import ConfigError
from sluice.pipeline.manifest import read_model

pytestmark = pytest.mark.train

NAMES = ("wafer-encoder-9b", "wafer-decoder-9b", "wafer-tagger", "wafer-emd")


def loaded(repository, name):
    from sluice.exporters.inference import runner

    model = read_model(repository / name / "1")
    return model.manifest, runner(model.path)


@pytest.mark.parametrize("name", NAMES)
def test_golden_outputs_are_reproduced(repository, name):
    model = read_model(repository / name / "1")
    manifest, run = loaded(repository, name)
    inputs, outputs = model.golden()
    (expected,) = outputs.values()
    got = run(*(inputs[tensor.name] for tensor in manifest.inputs))
    np.testing.assert_allclose(got, expected, atol=manifest.tolerance)
    assert all(len(column) == 64 for column in (*inputs.values(), expected))
    assert all(not column[-1].any() for column in inputs.values())
    assert np.isfinite(expected).all()


@pytest.mark.parametrize("batch", [1, 7, 2048])
@pytest.mark.parametrize("name", NAMES)
def test_any_batch_size_gives_the_same_answers(repository, name, batch):
    manifest, run = loaded(repository, name)
    inputs, outputs = read_model(repository / name / "1").golden()
    (expected,) = outputs.values()
    rows = np.arange(batch) % 64
    got = run(*(inputs[tensor.name][rows] for tensor in manifest.inputs))
    assert got.shape == (batch, *manifest.outputs[0].shape)
    assert got.dtype == manifest.outputs[0].dtype
    np.testing.assert_allclose(got, expected[rows], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_one_file_that_names_its_columns(repository, name):
    import onnx

    folder = repository / name / "1"
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "manifest.toml", "golden.npz"}
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    manifest = read_model(folder).manifest
    assert all(not weight.external_data for weight in model.graph.initializer)
    assert [tensor.name for tensor in model.graph.input] == [t.name for t in manifest.inputs]
    assert [tensor.name for tensor in model.graph.output] == [t.name for t in manifest.outputs]
    assert all(t.type.tensor_type.shape.dim[0].dim_param == "batch" for t in model.graph.input)


@pytest.mark.parametrize(("name", "most"), [("wafer-encoder-9b", 5), ("wafer-tagger", 11)])
def test_models_on_the_hot_path_hold_nothing_superfluous(repository, name, most):
    import onnx

    kinds = [node.op_type for node in onnx.load(repository / name / "1" / "model.onnx").graph.node]
    assert len(kinds) <= most
    assert not {"Pad", "Transpose", "Cast", "Identity"} & set(kinds)


def test_encoder_computes_what_the_trained_net_does(checkpoints, repository):
    import torch

    from sluice.exporters.families.wafers.model import Autoencoder

    coder = Autoencoder()
    coder.load_state_dict(torch.load(checkpoints / "autoencoder.pt", weights_only=True))
    inputs, outputs = read_model(repository / "wafer-encoder-9b" / "1").golden()
    with torch.no_grad():
        latent = coder.encoder(torch.from_numpy(inputs["image"])).numpy()
    np.testing.assert_allclose(outputs["latent"], latent, atol=1e-5)


def test_manifests_tell_where_the_weights_come_from(checkpoints, repository):
    note = json.loads((checkpoints / "training.json").read_text())["training"]
    for name in NAMES:
        manifest = read_model(repository / name / "1").manifest
        assert manifest.training.seed == note["seed"] == 3
        assert manifest.training.dataset_sha256 == note["dataset_sha256"]
        assert len(manifest.training.recipe_sha256) == 64
        assert all(np.isfinite(value) for value in manifest.metrics.values())


def test_a_resumed_training_changes_nothing(checkpoints, recipe, tmp_path):
    from sluice.exporters.families import TrainOptions, get

    copy = shutil.copytree(checkpoints, tmp_path / "copy")
    get("wafers").train(TrainOptions(copy, recipe=recipe, resume=True))
    for net in ("autoencoder", "emd", "tagger"):
        assert (copy / f"{net}.pt").read_bytes() == (checkpoints / f"{net}.pt").read_bytes()


def test_a_training_is_not_resumed_with_another_seed(checkpoints, recipe, tmp_path):
    from sluice.exporters.families import TrainOptions, get

    copy = shutil.copytree(checkpoints, tmp_path / "copy")
    with pytest.raises(ConfigError, match="another recipe"):
        get("wafers").train(TrainOptions(copy, seed=4, recipe=recipe, resume=True))


def test_missing_checkpoints_are_named(checkpoints, tmp_path):
    pytest.importorskip("onnx")
    from sluice.exporters.families import get

    with pytest.raises(ConfigError, match=r"training\.json"):
        get("wafers").export(tmp_path, tmp_path / "models")
    (tmp_path / "training.json").write_bytes((checkpoints / "training.json").read_bytes())
    with pytest.raises(ConfigError, match=r"autoencoder\.pt"):
        get("wafers").export(tmp_path, tmp_path / "models")
