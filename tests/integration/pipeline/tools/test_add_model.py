"""Models as other programs export them are added, and the stage that is printed runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from sluice.pipeline.config.graph_file import parse_graph
from sluice.pipeline.core.errors import ConfigError, ModelError, SluiceError
from sluice.pipeline.inference.repository import find_model, read_model
from sluice.pipeline.tools.added_model import AddedModel, add_model
from sluice.pipeline.tools.in_memory_run import run

pytestmark = pytest.mark.modules("onnx", "onnxruntime")
GRAPH = """
[graph]
name = "own"
[source]
use = "recording"
path = "none.arrows"
{stage}
[sink]
use = "null"
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, whose `models` is the only repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLUICE_MODELS", raising=False)
    return tmp_path


def write(text: str, name: str = "mine.onnx", opsets: str = '"": 17, "ai.onnx.ml": 3') -> Path:
    """Write a model in the text syntax of ONNX."""
    import onnx.parser

    model = onnx.parser.parse_model(f"<ir_version: 8, opset_import: [{opsets}]>\n{text}")
    Path(name).write_bytes(model.SerializeToString())
    return Path(name)


def normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(5).normal(size=shape).astype(dtype)


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


class Export(NamedTuple):
    """A graph with tensors as an exporter makes them, events, and the outputs in columns."""

    graph: str
    events: dict[str, np.ndarray]
    outputs: Callable[..., dict[str, np.ndarray]]


EXPORTS = {
    "batch of any size": Export(
        "g (float[n, 4] x) => (float[n, 4] y) { y = Exp(x) }",
        {"x": normal(9, 4)},
        lambda x: {"y": np.exp(x)},
    ),
    "batch of one, as Keras": Export(
        "g (float[1, 8, 8, 1] input_1) => (float[1, 64] softmax_01)"
        "{ f = Flatten(input_1) softmax_01 = Softmax(f) }",
        {"input_1": normal(9, 8, 8, 1)},
        lambda input_1: {"softmax_01": softmax(input_1.reshape(len(input_1), -1))},
    ),
    "batch of sixteen": Export(
        "g (float[16, 4] x) => (float[16, 4] y) { y = Exp(x) }",
        {"x": normal(37, 4)},
        lambda x: {"y": np.exp(x)},
    ),
    "double and one column, as scikit-learn": Export(
        "g (double[n, 3] X) => (double[n, 1] variable)"
        "<int64[1] axis = {1}> { variable = ReduceSum(X, axis) }",
        {"X": normal(9, 3, dtype="float64")},
        lambda X: {"variable": X.sum(axis=1, keepdims=True)},
    ),
    "labels and scores, as XGBoost": Export(
        "g (float[n, 3] float_input) => (int64[n] label, float[n, 3] probabilities)"
        "{ probabilities = Softmax(float_input)"
        "label = ArgMax<axis = 1, keepdims = 0>(float_input) }",
        {"float_input": normal(9, 3)},
        lambda float_input: {
            "label": float_input.argmax(axis=1),
            "probabilities": softmax(float_input),
        },
    ),
    "several inputs": Export(
        "g (float[n, 3] a, float[n] b, int64[n, 1] c) => (float[n, 3] s)"
        "<int64[1] axis = {1}>"
        "{ d = Cast<to = 1>(c) e = Add(a, d) f = Unsqueeze(b, axis) s = Add(e, f) }",
        {"a": normal(9, 3), "b": normal(9), "c": np.arange(9).reshape(9, 1) % 2},
        lambda a, b, c: {"s": a + b[:, None] + c},
    ),
    "names of our own columns": Export(
        "g (float[n] outcome) => (float[n] decision) { decision = Exp(outcome) }",
        {"model_outcome": normal(9)},
        lambda model_outcome: {"model_decision": np.exp(model_outcome)},
    ),
}


def assert_runs(added: AddedModel, export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the stage that is printed on events, and compare its columns."""
    monkeypatch.setenv("SLUICE_MODELS", "models")
    config = parse_graph(GRAPH.format(stage=added.stage), "own.toml")
    expected = export.outputs(**export.events)
    table = run(config, export.events, columns=tuple(expected)).to_arrow()
    for column, array in expected.items():
        got = np.array(table[column].to_pylist())
        np.testing.assert_allclose(got, array, atol=1e-5, err_msg=column)


@pytest.mark.parametrize("export", EXPORTS.values(), ids=EXPORTS)
def test_what_exporters_write_is_added_and_runs(export, monkeypatch):
    assert_runs(add_model(write(export.graph)), export, monkeypatch)


PLAIN = EXPORTS["batch of any size"].graph


def test_names_that_are_no_words_have_columns_that_are(monkeypatch):
    import onnx

    path = write(PLAIN)
    model = onnx.load(path)
    names = {"x": "serving_default_x:0", "y": "dense/Softmax:0"}
    model.graph.input[0].name = model.graph.node[0].input[0] = names["x"]
    model.graph.output[0].name = model.graph.node[0].output[0] = names["y"]
    path.write_bytes(model.SerializeToString())
    x = normal(5, 4)
    renamed = Export(
        "", {"serving_default_x_0": x}, lambda **columns: {"dense_Softmax_0": np.exp(x)}
    )
    assert_runs(add_model(path), renamed, monkeypatch)


def test_weights_outside_the_file_come_along(here, monkeypatch):
    import onnx
    from onnx import numpy_helper

    path = write("g (float[n, 4] x) => (float[n, 4] y) { y = Add(x, w) }")
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.full(4, 2, np.float32), "w"))
    (here / "other").mkdir()
    path = here / "other" / "mine.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    added = add_model(path)
    assert list(added.manifest.external) == ["w.bin"]
    assert (added.folder / "w.bin").read_bytes() == (here / "other" / "w.bin").read_bytes()
    assert_runs(added, Export("", {"x": normal(3, 4)}, lambda x: {"y": x + 2}), monkeypatch)


def test_sums_of_8_bit_products_are_exact_in_golden_outputs(here):
    path = write(
        "g (float[n, 8] x) => (float[n, 1] y) <float scale = {1}, uint8 zero = {0},"
        "int8[8, 1] w = {127, 127, 127, 127, 127, 127, 127, 127}>"
        "{ q = QuantizeLinear(x, scale, zero) i = MatMulInteger(q, w) y = Cast<to = 1>(i) }"
    )
    np.save(here / "largest.npy", np.full((3, 8), 255, np.float32))
    _, outputs = read_model(add_model(path, Path("largest.npy")).folder).golden()
    np.testing.assert_array_equal(outputs["y"], np.full((3, 1), 8 * 255 * 127, np.float32))


REFUSED = {
    "mean of the batch": (
        "g (float[n, 4] x) => (float[n, 4] y) <int64[1] axis = {0}>"
        "{ m = ReduceMean<axes = [0]>(x) y = Sub(x, m) }", "depend on the event alone",
    ),
    "noise": ("g (float[n, 4] x) => (float[n, 4] y) { y = RandomNormalLike(x) }", "random numbers"),
    "NaN": ("g (float[n, 4] x) => (float[n, 4] y) { z = Sub(x, x) y = Log(z) }", "finite outputs"),
    "texts": ("g (string[n, 1] x) => (string[n, 1] y) { y = Identity(x) }", "input 'x' is texts"),
    "no axis of events": ("g (float x) => (float y) { y = Exp(x) }", "input 'x'"),
    "sum of the batch": ("g (float[n, 4] x) => (float[1] y) { z = ReduceSum<keepdims = 0>(x)"
                         "y = Flatten<axis = 0>(z) }", "an entry for each of 32 events"),
    "any size": ("g (float[n, k] x) => (float[n, k] y) { y = Exp(x) }", "got ['any']"),
    "one event inside": ("g (float[n, 4] x) => (float[n, 4] y) <int64[2] s = {1, 4}>"
                         "{ y = Reshape(x, s) }", "cannot run it on 32 events"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_is_no_model_of_events_is_refused_and_leaves_nothing(case, here):
    text, says = case
    with pytest.raises(ModelError) as refused:
        add_model(write(text))
    assert says in str(refused.value)
    assert [path.name for path in here.rglob("*") if path.is_file()] == ["mine.onnx"]


def test_lists_of_dictionaries_are_left_out_with_the_remedy(monkeypatch):
    import onnx
    from onnx import TensorProto, helper

    path = write(EXPORTS["labels and scores, as XGBoost"].graph)
    model = onnx.load(path)
    model.graph.node.append(
        helper.make_node("ZipMap", ["probabilities"], ["maps"], domain="ai.onnx.ml",
                         classlabels_int64s=[0, 1, 2])
    )  # fmt: skip
    of_map = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    )
    del model.graph.output[1]
    model.graph.output.append(
        helper.make_value_info("maps", helper.make_sequence_type_proto(of_map))
    )
    path.write_bytes(model.SerializeToString())
    added = add_model(path)
    assert "options={'zipmap': False}" in " ".join(added.notes)
    x = normal(9, 3)
    labels = Export("", {"float_input": x}, lambda float_input: {"label": x.argmax(axis=1)})
    assert_runs(added, labels, monkeypatch)


def test_events_of_a_file_are_the_golden_ones(here, monkeypatch):
    path = write("g (float[n, k] x) => (float[n, k] y) { y = Log(x) }")
    x = np.abs(normal(40, 6, dtype="float64")) + 1
    x[3] = -1
    np.savez(here / "events.npz", x=x)
    np.save(here / "events.npy", x)
    recorded = pa.table({"x": pa.FixedSizeListArray.from_arrays(x.astype("f4").reshape(-1), 6)})
    with pa.ipc.new_stream("events.arrows", recorded.schema) as stream:
        stream.write_table(recorded)
    monkeypatch.setenv("SLUICE_MODELS", str(here / "models"))
    (here / "models").mkdir()
    for version, name in enumerate(("events.npz", "events.npy", "events.arrows"), 1):
        added = add_model(path, Path(name))
        assert added.manifest.version == version
        inputs, outputs = find_model("mine").golden()
        kept = np.delete(x[:32], 3, axis=0).astype(np.float32)  # its logarithm is NaN
        np.testing.assert_array_equal(inputs["x"], kept)
        np.testing.assert_allclose(outputs["y"], np.log(kept), atol=1e-5)
    np.savez(here / "other.npz", z=x)
    with pytest.raises(SluiceError, match="expected a column 'x', got z"):
        add_model(path, Path("other.npz"))
    with pytest.raises(ConfigError, match="cannot read"):
        add_model(path, Path("nothing.npz"))


NO_EVENTS = {
    "cut.npz": (b"PK\x03\x04", "cannot read"),
    "empty.npy": (b"", "cannot read"),
    "text.npy": (
        np.array([["a"] * 4] * 5),
        "'x': expected numbers with an axis of events, got <U1",
    ),
    "complex.npy": (np.ones((5, 4), "c8"), "'x': expected numbers with an axis of events, got com"),
    "scalar.npy": (np.float32(1), "expected numbers with an axis of events, got float32 of shape"),
}


@pytest.mark.parametrize("name", NO_EVENTS)
def test_files_of_numpy_without_events_are_refused(here, name):
    content, says = NO_EVENTS[name]
    if isinstance(content, bytes):
        (here / name).write_bytes(content)
    else:
        np.save(here / name, content)
    with pytest.raises(ConfigError) as refused:
        add_model(write(PLAIN), Path(name))
    assert f"{name}: " in str(refused.value)
    assert says in str(refused.value)


def test_the_extension_of_a_file_of_numpy_does_not_matter(here):
    x = normal(5, 4)
    np.savez(here / "arrays.npz", x=x)
    (here / "arrays.npz").rename(here / "arrays.npy")
    np.save(here / "array.npy", x)
    (here / "array.npy").rename(here / "array.npz")
    for name in ("arrays.npy", "array.npz"):
        inputs, _ = read_model(add_model(write(PLAIN), Path(name)).folder).golden()
        np.testing.assert_array_equal(inputs["x"], x)


def test_a_version_is_replaced_by_force_only(here):
    path = write(PLAIN, "Deep net (v2).onnx")
    assert add_model(path).folder == Path("models/Deep-net-v2/1")
    assert add_model(path).folder == Path("models/Deep-net-v2/2")
    with pytest.raises(ConfigError, match="expected a new version"):
        add_model(path, version=2)
    other = write(PLAIN.replace("Exp", "Abs"), "other.onnx")
    assert add_model(other, name="Deep-net-v2", version=2, force=True).folder.name == "2"
    assert (here / "models/Deep-net-v2/2/model.onnx").read_bytes() == other.read_bytes()
    with pytest.raises(ModelError, match="expected the name of a model"):
        add_model(path, name="../mine")
    for wrong in ("nothing.onnx", "models"):
        with pytest.raises(ModelError, match=wrong):
            add_model(Path(wrong))


@pytest.mark.parametrize("name", ["conv2d_small_keras", "three_layer_keras"])
@pytest.mark.data("models/conv2d_small_keras.onnx", "models/three_layer_keras.onnx")
def test_models_of_keras_are_added(data_dir, name, monkeypatch):
    import onnxruntime as ort

    path = data_dir / "models" / f"{name}.onnx"
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    x = normal(20, *given.shape[1:])
    y = np.concatenate([session.run(None, {given.name: event[None]})[0] for event in x])
    export = Export("", {given.name: x}, lambda **columns: {made.name: y})
    added = add_model(path)
    assert "blocks of 1" in " ".join(added.notes)
    assert_runs(added, export, monkeypatch)
