"""Fixtures that all tests share."""

from __future__ import annotations

import ctypes
import os


def _has_gpu() -> bool:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    found = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return found and count.value > 0


GPU = _has_gpu()
# Before anything imports numba: without a GPU its simulator runs the kernels for GPUs.
if not GPU:
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")
# Before anything imports torch or NumPy: two threads each are slower on nets of a few hundred
# weights, and a hundred times slower where testers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from sluice.exporters.families.wafers.simulation.wafers import simulate
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.inference.manifest import Manifest, Tensor
from sluice.pipeline.inference.repository import Model, write_model

ROOT = Path(__file__).resolve().parents[1]

# The only place where settings of hypothesis are made: a profile that a folder loaded would hold
# for whatever is collected after it.
_ALWAYS = settings(
    deadline=None,  # the machine may be busy with other things
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
settings.register_profile("dev", _ALWAYS, max_examples=50)
settings.register_profile("ci", _ALWAYS, max_examples=30, derandomize=True)
settings.register_profile("nightly", _ALWAYS, max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what only a GPU can show, where none is."""
    for item in items:
        if not GPU and item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason="no GPU is here"))


@pytest.fixture(autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run numbers of a test are its own; commands that it starts inherit the folder."""
    monkeypatch.setenv("SLUICE_STATE", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data beside the project, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("SLUICE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent; set SLUICE_DATA")
    return folder


#: Numbers of one item of the lists that the model `list-sum` takes, and most items.
FEATURES, MOST = 3, 20
INPUTS = (
    Tensor("tracks", "float32", (FEATURES,), max_items=MOST),
    Tensor("real", "float32", mask="tracks"),
    Tensor("number", "int64", length="tracks"),
    Tensor("scale", "float32"),
)
OUTPUTS = (Tensor("total", "float32", (FEATURES,)), Tensor("length", "float32"))


def write_list_sum(
    root: Path, *, fixed: int | None = None, inputs: tuple[Tensor, ...] = INPUTS
) -> Model:
    """Write a model that adds up the items of lists that its mask says are real.

    It takes lists of any length, or of one that is `fixed`.
    """
    from onnx import TensorProto, helper

    width = fixed or "items"
    shapes = {"tracks": ["n", width, FEATURES], "real": ["n", width], "number": ["n"],
              "scale": ["n"], "total": ["n", FEATURES], "length": ["n"]}  # fmt: skip
    kinds = {"number": TensorProto.INT64}
    values = {
        name: helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shape)
        for name, shape in shapes.items()
    }
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [1], [axis])
        for name, axis in (("two", 2), ("one", 1))
    ]
    nodes = [
        helper.make_node("Unsqueeze", ["real", "two"], ["wide"]),
        helper.make_node("Mul", ["tracks", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["sum"], keepdims=0),
        helper.make_node("Unsqueeze", ["scale", "one"], ["factor"]),
        helper.make_node("Mul", ["sum", "factor"], ["total"]),
        helper.make_node("Cast", ["number"], ["length"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes, "list-sum", [values[t.name] for t in INPUTS], [values[t.name] for t in OUTPUTS],
        constants,
    )  # fmt: skip
    onnx = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    width = fixed or 4
    tracks = np.arange(2 * width * FEATURES, dtype=np.float32).reshape(2, width, FEATURES)
    golden = {
        "tracks": tracks,
        "real": np.array([[1] * width, [1] + [0] * (width - 1)], np.float32),
        "number": np.array([width, 1]),
        "scale": np.array([1, 2], np.float32),
    }
    made = {
        "total": np.stack([tracks[0].sum(axis=0), 2 * tracks[1, 0]]),
        "length": np.array([width, 1], np.float32),
    }
    manifest = Manifest("list-sum", 1, "test", "", inputs, OUTPUTS, tolerance=1e-3)
    return write_model(root, manifest, onnx.SerializeToString(), golden, made)


@pytest.fixture(scope="session")
def list_sum() -> Callable[..., Model]:
    """Return what writes the model `list-sum` into a repository."""
    return write_list_sum


@pytest.fixture(scope="session")
def wafers() -> EventBatch:
    """500 simulated wafers as chip words, event ids from 1."""
    columns = simulate(500, 11)
    del columns["truth"]
    columns["event_id"] = np.arange(1, 501, dtype=np.uint64)
    columns["t_ingest"] = np.zeros(500, np.int64)
    return EventBatch(columns, 500)
