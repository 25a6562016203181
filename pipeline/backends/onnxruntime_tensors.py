"""The tensors of an ONNX file against those of its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ModelError
from ..manifest import Tensor
from ..repository import Model

_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64",
          "tensor(int32)": "int32", "tensor(uint8)": "uint8", "tensor(int8)": "int8",
          "tensor(uint16)": "uint16", "tensor(float16)": "float16",
          "tensor(bool)": "bool"}  # fmt: skip


def compare_tensors(model: Model, session: Any) -> None:
    """Refuse a session of a file whose inputs or outputs are not those of the manifest."""
    _compare(model, "input", model.manifest.inputs, session.get_inputs())
    _compare(model, "output", model.manifest.outputs, session.get_outputs())


def _compare(model: Model, role: str, tensors: tuple[Tensor, ...], nodes: Sequence[Any]) -> None:
    actual = {node.name: (_TYPES.get(node.type, node.type), tuple(node.shape)) for node in nodes}
    promised = {tensor.name for tensor in tensors}
    if promised != set(actual):
        raise ModelError(
            f"model {model.label}: manifest says {role}s {sorted(promised)}, "
            f"the file has {sorted(actual)}"
        )
    for tensor in tensors:
        dtype, shape = actual[tensor.name]
        item = shape[1:]
        # What a dimension of the file leaves open is a text.
        known = [a == b for a, b in zip(item, tensor.axes, strict=False)
                 if isinstance(a, int) and b is not None]  # fmt: skip
        if dtype != tensor.dtype or len(item) != len(tensor.axes) or not all(known):
            raise ModelError(
                f"model {model.label}: {role} {tensor.name!r}: manifest says "
                f"{tensor.column.form}, the file has {dtype}{list(item)}"
            )
