"""The wafer models that ship: intact, and as good as their manifests say."""

import numpy as np
import pytest

from sluice.pipeline.manifest import find_model

pytest.importorskip("onnxruntime")
pytest.importorskip("ot")

from sluice.exporters.families.wafers import data, metrics
from sluice.exporters.families.wafers.evaluating import MODELS, chain_of
from sluice.exporters.inference import runner


@pytest.fixture(scope="module")
def chain():
    return chain_of({name: runner(find_model(name).path) for name in MODELS})


@pytest.fixture(scope="module")
def sample():
    return data.simulated(4_000, seed=4321, coded=0.5)


@pytest.mark.parametrize("name", MODELS)
def test_golden_outputs(name):
    model = find_model(name)
    inputs, outputs = model.golden()
    (expected,) = outputs.values()
    got = runner(model.path)(*(inputs[tensor.name] for tensor in model.manifest.inputs))
    np.testing.assert_allclose(got, expected, atol=model.manifest.tolerance)


def test_codec_keeps_the_manifest_s_promise(chain, sample):
    promised = find_model(MODELS[0]).manifest.metrics["emd_mean"]
    assert metrics.codec(chain, sample, most=300)["emd_mean"] < 1.15 * promised


def test_surrogate_keeps_the_manifest_s_promise(chain, sample):
    promised = find_model("wafer-emd").manifest.metrics
    found = metrics.surrogate(chain, sample, seed=2, most=300)
    for kind in ("random", "best_choice", "super_cell", "moved", "decoded"):
        assert abs(found[f"{kind}_bias"]) < 0.01
        assert found[f"{kind}_std"] < 1.5 * promised[f"{kind}_std"]


def test_tagger_keeps_the_manifest_s_promise(chain, sample):
    promised = find_model("wafer-tagger").manifest.metrics
    found = metrics.tagging(chain, sample)
    for name, value in found.items():
        assert value > promised[name] - 0.03
