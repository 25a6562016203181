"""ONNX Runtime on the CPU: one intra-op thread a session, outputs bound to preallocated arrays."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime as ort

from ..batch import Array
from ..errors import ModelError
from ..manifest import Model, Tensor

_PROVIDERS = {"cpu": "CPUExecutionProvider"}
_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64",
          "tensor(int32)": "int32", "tensor(uint8)": "uint8", "tensor(int8)": "int8",
          "tensor(uint16)": "uint16", "tensor(float16)": "float16",
          "tensor(bool)": "bool"}  # fmt: skip


class OnnxRuntimeSession:
    """A model in an ONNX Runtime session; see `Session`."""

    def __init__(self, model: Model, device: str) -> None:
        provider = _PROVIDERS.get(device or "cpu")
        if provider is None:
            raise ModelError(
                f"model {model.label}: backend 'onnxruntime' has no device {device!r}",
                hint=f"known here: {', '.join(_PROVIDERS)}",
            )
        self.backend = f"onnxruntime:{device or 'cpu'}"
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # parallelism is by worker
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(model.path), options, providers=[provider])
        except Exception as error:  # its exceptions share no base class
            raise ModelError(
                f"model {model.label}: ONNX Runtime cannot load it: {error}"
            ) from error
        if self._session.get_providers()[0] != provider:
            raise ModelError(
                f"model {model.label}: asked for {provider}, got {self._session.get_providers()[0]}"
            )
        _compare(model, "input", model.manifest.inputs, self._session.get_inputs())
        _compare(model, "output", model.manifest.outputs, self._session.get_outputs())
        self._binding = self._session.io_binding()
        self._bound: dict[str, tuple[int, tuple[int, ...]]] = {}

    def infer(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Fill `outputs` from `inputs`; see `Session.infer`."""
        for name, array in inputs.items():
            if self._moved(name, array):
                self._binding.bind_input(
                    name, "cpu", 0, array.dtype.type, array.shape, self._bound[name][0]
                )
        for name, array in outputs.items():
            if self._moved(name, array):
                self._binding.bind_output(
                    name, "cpu", 0, array.dtype.type, array.shape, self._bound[name][0]
                )
        self._session.run_with_iobinding(self._binding)

    def _moved(self, name: str, array: Array) -> bool:
        """Note where a tensor is; whether that is another place or shape than the last time."""
        place = (array.__array_interface__["data"][0], array.shape)
        if self._bound.get(name) == place:
            return False
        self._bound[name] = place
        return True

    def close(self) -> None:
        """Free the session."""
        del self._binding, self._session


def _compare(
    model: Model, role: str, tensors: tuple[Tensor, ...], nodes: list[ort.NodeArg]
) -> None:
    """Refuse a file whose tensors are not those of the manifest."""
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
