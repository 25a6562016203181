"""A model whose outputs depend on more than the event is refused, with the cause."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.inference.manifest import Tensor
from sluice.pipeline.inference.repository import all_models, read_model
from sluice.pipeline.inference.session import open_session, open_verified_session
from sluice.pipeline.stages.infer import Infer

from .conftest import CLASSES, EVENTS, FEATURES, WEIGHTS, linear, serialised

pytestmark = pytest.mark.modules("onnx", "onnxruntime")
BATCH_EVENTS = 1000


def verify(model, max_events=BATCH_EVENTS):
    open_verified_session(read_model(model.folder), "onnxruntime:cpu", "here", max_events).close()


def refusal(model):
    with pytest.raises(ModelError) as caught:
        verify(model)
    assert model.label in str(caught.value)
    return str(caught.value)


def node(kind, inputs, outputs, **attributes):
    from onnx import helper

    return helper.make_node(kind, inputs, outputs, **attributes)


def product(name):
    return node("MatMul", [name, "w"], ["y"])


def dynamic_int8(folder: Path) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    (folder / "float.onnx").write_bytes(serialised(linear()))
    quantize_dynamic(folder / "float.onnx", folder / "int8.onnx", weight_type=QuantType.QInt8)
    return (folder / "int8.onnx").read_bytes()


def outputs_of(data, x=EVENTS):
    import onnxruntime as ort

    return ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})[0]


@pytest.mark.parametrize("tolerance", [1e-3, 0.05])
def test_ranges_of_the_batch_are_named(save, tmp_path, tolerance):
    data = dynamic_int8(tmp_path)
    text = refusal(save(data, y=outputs_of(data), tolerance=tolerance))
    assert "DynamicQuantizeLinear takes the range of its input from the whole batch" in text
    assert "quantize_static" in text


def test_the_batch_s_mean_is_refused(save):
    nodes = [node("ReduceMean", ["x", "axis"], ["m"], keepdims=1), node("Sub", ["x", "m"], ["c"])]
    data = serialised(linear(nodes=[*nodes, product("c")], axis=np.array([0])))
    text = refusal(save(data, y=outputs_of(data)))
    assert "when an event is alone in its batch" in text
    assert "evaluation mode" in text


def test_batch_normalisation_in_training_mode_is_named(save):
    ones, zeros = np.ones(FEATURES, np.float32), np.zeros(FEATURES, np.float32)
    normalise = node("BatchNormalization", ["x", "ones", "zeros", "zeros", "ones"],
                     ["c", "mean", "variance"], training_mode=1)  # fmt: skip
    data = serialised(linear(nodes=[normalise, product("c")], ones=ones, zeros=zeros), opset=15)
    text = refusal(save(data, y=outputs_of(data)))
    assert "BatchNormalization takes mean and variance of the batch in training mode" in text


def test_noise_is_refused_whatever_the_tolerance(save):
    nodes = [node("RandomNormalLike", ["x"], ["r"], scale=1.0), node("Add", ["x", "r"], ["c"])]
    text = refusal(save(serialised(linear(nodes=[*nodes, product("c")])), tolerance=100.0))
    assert "when the same batch is processed again" in text
    assert "RandomNormalLike draws random numbers" in text


def test_sums_over_earlier_events_are_refused(save):
    nodes = [node("CumSum", ["x", "axis"], ["c"]), product("c")]
    data = serialised(linear(nodes=nodes, axis=np.array(0)))
    assert "with the events in reverse order" in refusal(save(data, y=outputs_of(data)))


def test_one_golden_event_does_not_hide_it(save):
    nodes = [node("ReduceMean", ["x", "axis"], ["m"], keepdims=1), node("Sub", ["x", "m"], ["c"])]
    data = serialised(linear(nodes=[*nodes, product("c")], axis=np.array([0])))
    one = EVENTS[:1]
    assert "with other events in the batch" in refusal(save(data, x=one, y=outputs_of(data, one)))


def test_a_dependence_on_the_number_of_events_is_found(save):
    nodes = [node("Shape", ["x"], ["s"], end=1), node("Cast", ["s"], ["f"], to=1),
             node("Div", ["f", "many"], ["d"]), node("Floor", ["d"], ["g"]),
             node("Add", ["x", "g"], ["c"])]  # fmt: skip
    data = serialised(linear(nodes=[*nodes, product("c")], many=np.float32(500)))
    assert "in a batch of 648 events" in refusal(save(data))


def test_fixed_sizes_inside_are_an_error_of_the_model(save):
    nodes = [node("Reshape", ["x", "shape"], ["r"]), product("r")]
    data = serialised(linear(nodes=nodes, shape=np.array([1, FEATURES])))
    text = refusal(save(data, x=EVENTS[:1], y=EVENTS[:1] @ WEIGHTS))
    assert "cannot run it on" in text
    assert "without fixed sizes inside" in text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_golden_outputs_are_finite(save, value):
    y = EVENTS @ WEIGHTS
    y[3, 1] = value
    assert "golden output 'y': expected finite numbers" in refusal(save(serialised(linear()), y=y))


@pytest.mark.parametrize("batch", [1, 4, 16, "n", -1])
@pytest.mark.parametrize("events", [1, 4, 10])
def test_a_model_of_fixed_batch_is_run_in_blocks(save, batch, events):
    x = EVENTS[:events]
    model = save(serialised(linear(batch)), x=x, y=x @ WEIGHTS)
    verify(model)
    session = open_session(model, "onnxruntime:cpu", "here")
    many = np.random.default_rng(3).normal(size=(37, FEATURES)).astype(np.float32)
    for part in (many, many[:5], many[7:8], many):
        got = np.full((len(part), CLASSES), np.nan, np.float32)
        session.infer({"x": np.ascontiguousarray(part)}, {"y": got})
        np.testing.assert_allclose(got, part @ WEIGHTS, atol=1e-5)
    session.close()


def test_a_block_that_mixes_its_events_is_refused(save):
    nodes = [node("ReduceMean", ["x", "axis"], ["m"], keepdims=1), node("Sub", ["x", "m"], ["c"])]
    data = serialised(linear(16, nodes=[*nodes, product("c")], axis=np.array([0])))
    x = np.random.default_rng(3).normal(size=(16, FEATURES)).astype(np.float32)
    assert "depend on the event alone" in refusal(save(data, x=x, y=outputs_of(data, x)))


@pytest.mark.parametrize(("keys", "word"), [
    ({"ir_version": 99}, "IR version 99"), ({"opset": 99}, "opset ai.onnx 99"),
])  # fmt: skip
def test_a_model_that_is_too_new_is_refused_with_its_versions(save, keys, word):
    text = refusal(save(serialised(linear(), **keys)))
    assert word in text
    assert "ONNX Runtime 1." in text
    assert "lower opset" in text


def test_dictionaries_are_named_with_the_remedy(save):
    from onnx import TensorProto, helper

    graph = linear(nodes=[node("MatMul", ["x", "w"], ["z"]),
                          node("ZipMap", ["z"], ["y"], domain="ai.onnx.ml",
                               classlabels_int64s=[0, 1])])  # fmt: skip
    of_map = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    )
    del graph.output[:]
    graph.output.append(helper.make_value_info("y", helper.make_sequence_type_proto(of_map)))
    text = refusal(save(serialised(graph)))
    assert "output 'y' is a list of dictionaries, which the operator ZipMap makes" in text
    assert "options={'zipmap': False}" in text


def test_texts_are_named_with_the_remedy(save):
    from onnx import TensorProto

    graph = linear(nodes=[node("Cast", ["x"], ["y"], to=TensorProto.STRING)])
    graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = FEATURES
    assert "output 'y' is texts" in refusal(save(serialised(graph)))


def test_an_output_without_an_axis_of_events_is_refused(save):
    from onnx import TensorProto, helper

    graph = linear(nodes=[node("MatMul", ["x", "w"], ["z"]),
                          node("ReduceSum", ["z"], ["y"], keepdims=0)])  # fmt: skip
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, []))
    model = save(serialised(graph), y=np.zeros(10, np.float32), outputs=(Tensor("y", "float32"),))
    assert "output 'y': expected an axis of events, the file has none" in refusal(model)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64"])
def test_other_dtypes_are_tensors_too(save, dtype):
    from onnx import helper, numpy_helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = linear()
    weights = np.round(4 * WEIGHTS).astype(dtype)
    graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.elem_type = kind
    x = np.round(EVENTS).astype(dtype)
    inputs, outputs = Tensor("x", dtype, (FEATURES,)), Tensor("y", dtype, (CLASSES,))
    verify(save(serialised(graph), x=x, y=x @ weights, inputs=(inputs,), outputs=(outputs,)))


def test_further_outputs_of_the_file_are_not_needed(save):
    from onnx import TensorProto, helper

    graph = linear(nodes=[product("x"), node("ArgMax", ["y"], ["label"], axis=1, keepdims=0)])
    graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))
    verify(save(serialised(graph)))


@pytest.mark.parametrize("backend", ["onnxruntime:cpu", "layers"])
def test_shipped_models_depend_on_the_event_alone(backend):
    for folder in all_models():
        model = read_model(folder)
        if backend == "layers" and not model.manifest.layers:
            continue
        open_verified_session(model, backend, "here", BATCH_EVENTS).close()


def test_such_a_model_is_not_swapped_in(save):
    save(serialised(linear()))
    nodes = [node("ReduceMean", ["x", "axis"], ["m"], keepdims=1), node("Sub", ["x", "m"], ["c"])]
    data = serialised(linear(nodes=[*nodes, product("c")], axis=np.array([0])))
    other = save(data, y=outputs_of(data), version=2)
    stage = Infer("net", Infer.Options(model="mine", version=1))
    stage.open(100)
    with pytest.raises(ModelError, match=r"mine/2: .* that depend on the event alone"):
        stage.prepare(1, other)
    stage.activate(1)
    done = stage.process(EventBatch({"x": EVENTS}, len(EVENTS)))
    np.testing.assert_allclose(done["y"], EVENTS @ WEIGHTS, atol=1e-5)
    stage.close()
