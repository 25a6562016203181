"""Models in 8 and 16 bits: smaller, nearly the same, and honest about what they lose."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

import onnx
import torch

from sluice.exporters.conversion.onnx import Export, serialise
from sluice.exporters.conversion.onnx_runner import runner
from sluice.exporters.conversion.quantize import fp16, int8, write_variants
from sluice.pipeline.inference.manifest import Manifest, Tensor
from sluice.pipeline.inference.repository import read_model


@pytest.fixture(scope="module")
def export():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1),
        torch.nn.Sigmoid(), torch.nn.Flatten(0),
    )  # fmt: skip
    manifest = Manifest(
        name="tiny", version=1, family="none", sha256="", description="A net for a test.",
        inputs=(Tensor("x", "float32", (32,)),), outputs=(Tensor("y", "float32"),),
    )  # fmt: skip
    return Export(net, manifest, {"x": events(16)})


def events(count):
    return np.random.default_rng(count).normal(size=(count, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def model(export):
    return serialise(export)


@pytest.mark.parametrize(("make", "gap", "share"), [("int8", 0.03, 0.75), ("fp16", 2e-3, 0.75)])
def test_a_variant_is_smaller_and_nearly_the_same(model, make, gap, share):
    x = events(200)
    small = int8(model, {"x": x}) if make == "int8" else fp16(model)
    got, expected = runner(small)(x), runner(model)(x)
    assert got.dtype == np.float32
    assert 0 < np.abs(got - expected).max() < gap
    weights = sum(len(one.raw_data) for one in onnx.load_from_string(small).graph.initializer)
    assert weights < share * sum(
        len(one.raw_data) for one in onnx.load_from_string(model).graph.initializer
    )


class Logarithms(torch.nn.Module):
    """A net whose inputs span six orders of magnitude."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
        )

    def forward(self, x):
        return torch.sigmoid(self.layers(torch.log(x + 1e-4)).squeeze(1))


def test_inputs_of_all_sizes_survive_8_bits(export):
    sizes = np.logspace(-3, 3, 32, dtype=np.float32)
    x = sizes * np.exp(events(400))
    wide = replace(export, module=Logarithms(), golden={"x": x[:16]})
    model = serialise(wide)
    got, expected = runner(int8(model, {"x": x}))(x), runner(model)(x)
    assert np.corrcoef(got, expected)[0, 1] > 0.999


def test_sums_of_8_bit_products_do_not_saturate(export):
    layer = torch.nn.Linear(32, 1)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    x = np.ones((4, 32), np.float32)  # all weights and inputs at the top of their 8-bit scales
    model = serialise(
        replace(export, module=torch.nn.Sequential(layer, torch.nn.Flatten(0)), golden={"x": x})
    )
    np.testing.assert_allclose(runner(int8(model, {"x": x}))(x), 32.0, rtol=1e-3)


def test_variants_tell_what_they_lose(export, model, tmp_path):
    x = events(300)
    truth = runner(model)(x)

    def measure(run):
        return {"closeness": -float(np.abs(run(x) - truth).mean())}

    folders = write_variants(export, model, {"x": x}, measure, tmp_path)
    found = {folder.parent.name: read_model(folder) for folder in folders}
    assert set(found) == {"tiny-int8", "tiny-fp16"}
    for name, one in found.items():
        assert one.manifest.precision == name.removeprefix("tiny-")
        assert one.manifest.metrics["closeness_loss"] > 0
        assert one.manifest.inputs == export.manifest.inputs
        inputs, outputs = one.golden()
        np.testing.assert_allclose(runner(one.path)(inputs["x"]), outputs["y"], atol=1e-6)
    losses = [one.manifest.metrics["closeness_loss"] for one in found.values()]
    assert losses[0] > losses[1]
