"""Plain layers found in ONNX graphs: the kernel computes what ONNX Runtime does."""

import numpy as np
import onnx
import pytest

from sluice.exporters.conversion.layers import plain_layers
from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.inference.repository import all_models, find_model, read_model
from sluice.pipeline.inference.session import open_session

PLAIN = ("wafer-encoder-3b", "wafer-encoder-5b", "wafer-encoder-7b", "wafer-encoder-9b",
         "wafer-tagger")  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_the_layers_that_ship_are_those_of_the_onnx_file(name):
    """Nothing else can have been written beside the model."""
    model = find_model(name)
    found = plain_layers(onnx.load(model.path), model.manifest)
    shipped = model.layers()
    assert found is not None
    assert found.keys() == shipped.keys()
    for key, array in found.items():
        np.testing.assert_array_equal(shipped[key], array)


@pytest.mark.parametrize("name", PLAIN)
def test_both_backends_agree_on_inputs_never_seen(name):
    """Encoders in integers exactly, also far from any wafer; the tagger to rounding."""
    rng = np.random.default_rng(3)
    model = find_model(name)
    events = 1000
    inputs = {
        tensor.name: (4.0 * rng.random((events, *tensor.shape)) ** 6).astype(np.float32)
        for tensor in model.manifest.inputs
    }
    if "image" in inputs:
        inputs["image"][:, 4:, 4:] = 0
    got = []
    for backend in ("layers", "onnxruntime:cpu"):
        outputs = {t.name: t.column.empty(events) for t in model.manifest.outputs}
        session = open_session(model, backend, "test")
        session.infer(inputs, outputs)
        session.close()
        got.append(outputs[model.manifest.outputs[0].name])
    if name == "wafer-tagger":
        np.testing.assert_allclose(*got, atol=model.manifest.tolerance)
    else:
        np.testing.assert_array_equal(*got)


def test_what_is_more_than_plain_layers_has_no_layers_file():
    """Such a model is refused on that backend, with a way out."""
    model = find_model("wafer-emd")
    assert plain_layers(onnx.load(model.path), model.manifest) is None
    with pytest.raises(ModelError, match="has no layers file") as caught:
        open_session(model, "layers", "test")
    assert "onnxruntime" in (caught.value.hint or "")


def test_every_model_that_ships_says_whether_it_is_plain():
    """Those with a layers file are the ones above."""
    plain = {m.manifest.name for m in map(read_model, all_models()) if m.manifest.layers}
    assert set(PLAIN) <= plain
