"""Models as other programs export them, written with the package ``onnx``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sluice.pipeline.inference.manifest import Manifest, Tensor
from sluice.pipeline.inference.repository import Model, write_model

#: Inputs of one event, and outputs.
FEATURES, CLASSES = 4, 2
WEIGHTS = np.random.default_rng(1).normal(size=(FEATURES, CLASSES)).astype(np.float32)
EVENTS = np.random.default_rng(2).normal(size=(10, FEATURES)).astype(np.float32)


def linear(batch: int | str = "n", nodes: list[Any] | None = None, **constants: Any) -> Any:
    """Return a graph from `x` by `nodes` to `y`; by default the product with WEIGHTS.

    The nodes may use the weights `w` and further `constants`, arrays by name.
    """
    from onnx import TensorProto, helper, numpy_helper

    return helper.make_graph(
        nodes or [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, CLASSES])],
        [
            numpy_helper.from_array(np.asarray(array), name)
            for name, array in {"w": WEIGHTS, **constants}.items()
        ],
    )


def serialised(graph: Any, opset: int = 20, ir_version: int = 10) -> bytes:
    from onnx import helper

    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    return bytes(model.SerializeToString())


Save = Callable[..., Model]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model repository of the test's own."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.setenv("SLUICE_MODELS", str(folder))
    return folder


@pytest.fixture
def save(repository: Path) -> Save:
    """Write a model into the repository: the bytes of an ONNX file and golden arrays."""

    def write(data: bytes, x: Any = EVENTS, y: Any = None, **manifest: Any) -> Model:
        known = {"name": "mine", "version": 1, "family": "test", "sha256": "", "tolerance": 1e-3,
                 "inputs": (Tensor("x", "float32", (FEATURES,)),),
                 "outputs": (Tensor("y", "float32", (CLASSES,)),)}  # fmt: skip
        outputs = EVENTS @ WEIGHTS if y is None else y
        return write_model(repository, Manifest(**known | manifest), data, {"x": x}, {"y": outputs})

    return write
