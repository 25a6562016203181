"""The wafer models that ship: intact, small, and as good as their manifests say."""

import numpy as np
import pytest

from sluice.pipeline.inference.repository import find_model

pytest.importorskip("onnxruntime")

from sluice.exporters.conversion.multiply_adds import multiply_adds
from sluice.exporters.conversion.onnx_runner import runner
from sluice.exporters.families.wafers import (
    data,
    evaluate,
    manifest_metrics,
    measured_files,
    metrics,
)

BITS = (3, 5, 7, 9)
CODERS = [f"wafer-{part}coder-{bits}b" for part in ("en", "de") for bits in BITS]
SURROGATES = ("wafer-emd", "wafer-emd-large")
MODELS = [*CODERS, *SURROGATES, "wafer-tagger"]


@pytest.fixture(scope="module")
def runners():
    return evaluate.models()


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
    assert model.path.stat().st_size < 1e6


@pytest.mark.parametrize("links", [2, 3, 4, 5])
def test_codec_is_as_good_as_its_manifest_says(runners, sample, links):
    coder = manifest_metrics.shipped(runners)[links]
    promised = find_model(f"wafer-encoder-{BITS[links - 2]}b").manifest.metrics["emd_mean"]
    found = metrics.codec(coder, data.threshold(sample).part(slice(0, 600)))
    assert found["emd_mean"] < 1.1 * promised


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogate_is_as_good_as_its_manifest_says(runners, sample, name):
    promised = find_model(name).manifest.metrics
    coders = manifest_metrics.shipped(runners)
    regimes = metrics.pair_regimes(
        sample, {"encoder-9b": coders[5].decode[0]}, seed=2, max_wafers=500
    )
    for kind, found in metrics.surrogate_errors(runners[name], regimes).items():
        assert abs(found["bias"]) < 0.01
        assert found["std"] < 1.4 * promised[f"{kind}_std"]


def test_surrogates_stay_within_their_budgets():
    assert 10_000 < multiply_adds(find_model("wafer-emd").path) <= 20_000
    assert 100_000 < multiply_adds(find_model("wafer-emd-large").path) <= 150_000


def test_multiply_adds_are_those_of_the_layers():
    layers = find_model("wafer-tagger").layers()
    products = sum(array.size for name, array in layers.items() if name.startswith("weight"))
    assert multiply_adds(find_model("wafer-tagger").path) == products


def test_tagger_is_as_good_as_its_manifest_says(runners, sample):
    promised = find_model("wafer-tagger").manifest.metrics
    found = metrics.tagging(runners["wafer-tagger"], runners["wafer-encoder-9b"], sample)
    for name, value in found.items():
        assert value > promised[name] - 0.03


@pytest.mark.data("calq/CALQ_output.csv")
def test_measured_wafers_not_trained_on_come_back_close(runners):
    measured = measured_files.measured("CALQ_output.csv")
    assert measured is not None
    kept = data.threshold(metrics.held_out(measured, evaluate.known()))
    assert len(kept) > 1_000
    assert metrics.codec(manifest_metrics.shipped(runners)[5], kept)["emd_mean"] < 1.05
