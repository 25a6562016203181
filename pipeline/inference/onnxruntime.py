"""The backend ``onnxruntime``, on the CPU or on a GPU by its CUDA or TensorRT provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime as ort

from sluice.pipeline.core.errors import ModelError, did_you_mean
from sluice.pipeline.core.schema import Array

from .onnx_file import read_onnx_file
from .onnxruntime_providers import check_signature, load_error
from .repository import Model
from .session import Session

_PROVIDER = "CPUExecutionProvider"
_GPU = ("cuda", "tensorrt")

Infer = Callable[[Mapping[str, Array], Mapping[str, Array]], None]


class OnnxRuntimeSession:
    """A model in an ONNX Runtime session.

    Parameters
    ----------
    model
        The model.
    device
        ``cpu``, ``cuda`` or ``tensorrt``; the latter two may have the index of the GPU, as in
        ``cuda:1``; by default 0.
    """

    infer: Infer
    close: Callable[[], None]

    def __init__(self, model: Model, device: str) -> None:
        session = _open(model, device or "cpu")
        self.backend = session.backend
        self.infer, self.close = session.infer, session.close

    @staticmethod
    def require_available(device: str) -> None:
        """Raise ModelError if the device or a library is missing."""
        kind, number = _device(device or "cpu")
        if kind in _GPU:
            from sluice.pipeline.gpu.cuda import Cuda

            from .onnxruntime_providers import require

            require(kind, number)
            Cuda(number)


def _open(model: Model, device: str) -> Session:
    try:
        kind, number = _device(device)
    except ModelError as error:
        raise ModelError(f"model {model.label}: {error.message}", error.hint) from error
    if kind == "cpu":
        return OnnxRuntimeCpuSession(model)
    from .onnxruntime_gpu import OnnxRuntimeGpuSession

    return OnnxRuntimeGpuSession(model, kind, number)


def _device(device: str) -> tuple[str, int]:
    """Return the kind and the index of a device such as ``cuda:1``."""
    kind, colon, number = device.partition(":")
    if kind not in ("cpu", *_GPU) or (colon and not (number.isdigit() and kind in _GPU)):
        raise ModelError(
            f"backend 'onnxruntime' has no device {device!r}",
            did_you_mean(device, ("cpu", *_GPU)),
        )
    return kind, int(number or 0)


def cpu_options(threads: int = 1) -> ort.SessionOptions:
    """Return the options of every session on the CPU.

    Parameters
    ----------
    threads
        Number of threads of an operator; 1 where workers run in parallel.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: it warns of every input that may be left out
    # Exact sums of 8-bit products. Without it, processors that lack VNNI add pairs of products in
    # 16 bits, which saturate: an int8 model would then depend on the processor.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


class OnnxRuntimeCpuSession:
    """A session on the CPU with one thread, whose outputs are bound to preallocated arrays.

    A model that takes a fixed number of events is run in blocks of so many, the last one padded
    with copies of its first event.
    """

    backend = "onnxruntime:cpu"

    def __init__(self, model: Model) -> None:
        file = read_onnx_file(model.path, model.label)
        try:
            self._session = ort.InferenceSession(
                str(model.path), cpu_options(), providers=[_PROVIDER]
            )
        except Exception as error:  # its exceptions share no base class
            raise load_error(file, model.label, error) from error
        if self._session.get_providers()[0] != _PROVIDER:
            raise ModelError(
                f"model {model.label}: asked for {_PROVIDER}, got "
                f"{self._session.get_providers()[0]}"
            )
        check_signature(model, self._session, file)
        self._block_events = file.fixed_batch
        self._blocks: dict[str, Array] = {}
        self._binding = self._session.io_binding()
        self._bound: dict[str, tuple[int, tuple[int, ...]]] = {}

    def infer(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Fill `outputs` from `inputs`, arrays (N, ...) by tensor name."""
        if self._block_events:
            self._infer_blocks(inputs, outputs)
        else:
            self._infer(inputs, outputs)

    def _infer_blocks(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        to = {name: self._block(name, array) for name, array in inputs.items()}
        of = {name: self._block(name, array) for name, array in outputs.items()}
        size = self._block_events
        for start in range(0, len(next(iter(inputs.values()))), size):
            for name, array in inputs.items():
                events = array[start : start + size]
                to[name][: len(events)] = events
                to[name][len(events) :] = events[0]
            self._infer(to, of)
            for name, array in outputs.items():
                rows = array[start : start + size]
                rows[:] = of[name][: len(rows)]

    def _block(self, name: str, array: Array) -> Array:
        """Return an array for one block of a tensor; the same one as long as its shape stays."""
        shape = (self._block_events, *array.shape[1:])
        if name not in self._blocks or self._blocks[name].shape != shape:
            self._blocks[name] = np.empty(shape, array.dtype)
        return self._blocks[name]

    def _infer(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
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
        """Record address and shape of a tensor; return whether they differ from the last call."""
        place = (array.__array_interface__["data"][0], array.shape)
        if self._bound.get(name) == place:
            return False
        self._bound[name] = place
        return True

    def close(self) -> None:
        """Free the session."""
        del self._binding, self._session
