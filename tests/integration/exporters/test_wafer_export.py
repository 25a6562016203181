"""From training to a model repository: what is written is what was trained."""

import json
import re
import shutil

import numpy as np
import pytest

from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.inference.repository import read_model

pytestmark = [
    pytest.mark.train,
    pytest.mark.long,
    pytest.mark.modules("torch", "ot", "onnx", "onnxscript"),
]

NAMES = (
    "wafer-encoder-3b",
    "wafer-encoder-9b",
    "wafer-decoder-3b",
    "wafer-decoder-9b",
    "wafer-tagger",
    "wafer-encoder-9b-quarter",
    "wafer-tagger-half",
    "wafer-emd",
    "wafer-emd-cnn",
)


def loaded(repository, name):
    from sluice.exporters.conversion.onnx_runner import runner

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
    found = {path.name for path in folder.iterdir()} - {"layers.npz"}  # where it is plain layers
    assert found == {"model.onnx", "manifest.toml", "golden.npz"}
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    manifest = read_model(folder).manifest
    assert all(not weight.external_data for weight in model.graph.initializer)
    fixed = {weight.name for weight in model.graph.initializer}
    needed = [tensor for tensor in model.graph.input if tensor.name not in fixed]
    assert [tensor.name for tensor in needed] == [t.name for t in manifest.inputs]
    assert [tensor.name for tensor in model.graph.output] == [t.name for t in manifest.outputs]
    assert all(t.type.tensor_type.shape.dim[0].dim_param == "batch" for t in needed)


HOT_PATH = {
    # Two casts cut to integers: half the time of a floor.
    "wafer-encoder-9b": "Reshape Mul Cast Cast Gemm Relu Cast Cast Gemm Relu",
    "wafer-tagger": "Add Log Reshape Mul Concat( Gemm Relu)+ Gemm Softmax",
}


@pytest.mark.parametrize(("name", "kinds"), HOT_PATH.items())
def test_models_on_the_hot_path_hold_nothing_superfluous(repository, name, kinds):
    import onnx

    model = onnx.load(repository / name / "1" / "model.onnx")
    assert re.fullmatch(kinds, " ".join(node.op_type for node in model.graph.node))


def test_encoder_computes_what_the_trained_net_does(checkpoints, repository):
    import torch

    from sluice.exporters.families.wafers.coders.model import Autoencoder

    coder = Autoencoder(9, 16)
    coder.load_state_dict(torch.load(checkpoints / "shipped-9b-0.pt", weights_only=True))
    inputs, outputs = read_model(repository / "wafer-encoder-9b" / "1").golden()
    with torch.no_grad():
        latent = coder.encoder(torch.from_numpy(inputs["image"])).numpy()
    np.testing.assert_array_equal(outputs["latent"], latent)


def test_encoder_model_reproduces_the_chip_s_integers(checkpoints, repository):
    import torch

    from sluice.exporters.families.wafers import data
    from sluice.exporters.families.wafers.coders import compare, fixed_point, fixed_point_torch

    state = torch.load(checkpoints / "shipped-5b-0.pt", weights_only=True)
    held = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
    sample = data.simulated(2_000, 8, coded=0.5)
    _, run = loaded(repository, "wafer-encoder-5b")
    latent_q, _ = compare.over_link(run(sample.image), sample.total, 5)
    expected = fixed_point.encode(fixed_point_torch.integers(held), sample.image, 5)
    np.testing.assert_array_equal(latent_q * 16, expected)


def test_decoder_takes_a_bias_that_need_not_be_fed(repository):
    import onnxruntime

    model = read_model(repository / "wafer-decoder-9b" / "1")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.path, options, providers=["CPUExecutionProvider"])
    latent = model.golden()[0]["latent_q"]
    bias = np.linspace(-0.5, 0.5, 16, dtype=np.float32)
    shifted = session.run(None, {"latent_q": latent, "latent_bias": bias})[0]
    expected = session.run(None, {"latent_q": latent + bias})[0]
    np.testing.assert_allclose(shifted, expected, atol=1e-6)
    assert not np.allclose(shifted, session.run(None, {"latent_q": latent})[0])


def test_encoders_only_compared_are_kept_beside_the_models(repository):
    from sluice.exporters.families.wafers import data
    from sluice.exporters.families.wafers.coders import compare

    ways = list(compare.compared(repository))
    assert {way.name for way in ways} == {
        f"encoder-{kind}" for kind in ("mse", "telescope", "emd", "best", "conditional")
    }
    assert {len(way.decode) for way in ways if way.name == "encoder-mse"} == {2}
    sample = data.simulated(50, 8, coded=0.5)
    for way in ways:
        decoded = way.decode[0](sample)
        assert decoded.shape == (len(sample), 48)
        assert (decoded >= 0).all()


def test_manifests_tell_where_the_weights_come_from(checkpoints, repository):
    note = json.loads((checkpoints / "training.json").read_text())["training"]
    for name in NAMES:
        manifest = read_model(repository / name / "1").manifest
        assert manifest.training.seed == note["seed"] == 3
        assert manifest.training.dataset_sha256 == note["dataset_sha256"]
        assert len(manifest.training.recipe_sha256) == 64
        assert all(np.isfinite(value) for value in manifest.metrics.values())


def test_a_resumed_training_changes_nothing(checkpoints, recipe, tmp_path):
    from sluice.exporters.families.base import TrainOptions, get

    copy = shutil.copytree(checkpoints, tmp_path / "copy")
    get("wafers").train(TrainOptions(copy, recipe=recipe, resume=True))
    for net in ("shipped-9b-0", "mse-3b-1", "wafer-emd", "tagger"):
        assert (copy / f"{net}.pt").read_bytes() == (checkpoints / f"{net}.pt").read_bytes()


def test_a_training_is_not_resumed_with_another_seed(checkpoints, recipe, tmp_path):
    from sluice.exporters.families.base import TrainOptions, get

    copy = shutil.copytree(checkpoints, tmp_path / "copy")
    with pytest.raises(ConfigError, match="another recipe"):
        get("wafers").train(TrainOptions(copy, seed=4, recipe=recipe, resume=True))


def test_missing_checkpoints_are_named(checkpoints, tmp_path):
    from sluice.exporters.families.base import get

    with pytest.raises(ConfigError, match=r"training\.json"):
        get("wafers").export(tmp_path, tmp_path / "models")
    (tmp_path / "training.json").write_bytes((checkpoints / "training.json").read_bytes())
    with pytest.raises(ConfigError, match=r"shipped-3b-0\.pt"):
        get("wafers").export(tmp_path, tmp_path / "models")
