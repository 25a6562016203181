"""ONNX Runtime on a GPU, with buffers bound once and all work on one stream, never on the CPU."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.core.schema import Array
from sluice.pipeline.gpu.cuda import Cuda, GpuInfo, Memory, Stream

from .manifest import Tensor
from .onnx_file import read_onnx_file, require_any_batch
from .onnxruntime_providers import (
    PROVIDERS,
    check_signature,
    cuda_options,
    require,
    tensorrt_options,
)
from .repository import Model
from .tensorrt_plans import folder

#: Batch sizes of captured graphs, events; batches are padded to the next one. A batch smaller than
#: the first takes a GPU the same time.
_FIRST_SIZE = 256


class _Tensor:
    """Pinned and device memory of one tensor, for the largest batch."""

    def __init__(
        self,
        cuda: Cuda,
        tensor: Tensor,
        lists: Mapping[str, int],
        events: int,
        resources: ExitStack,
    ) -> None:
        self.dtype = np.dtype(tensor.dtype)
        longest = lists.get(tensor.mask or tensor.name, 1)
        items = math.prod(longest if n is None else n for n in tensor.axes)
        nbytes = events * items * self.dtype.itemsize
        self.device = Memory(cuda, nbytes)
        resources.callback(self.device.free)
        self.host = Memory(cuda, nbytes, pinned=True)
        resources.callback(self.host.free)

    def shape_of(self, array: Array, size: int) -> tuple[int, ...]:
        """Return the shape of an array padded to `size` events."""
        return (size, *array.shape[1:])

    def upload(self, stream: Stream, array: Array, size: int) -> None:
        """Queue the copy of an array to the device, padded with zeros to `size` events."""
        shape = self.shape_of(array, size)
        pinned = self.host.on_host(shape, self.dtype.name)
        pinned[: len(array)] = array
        pinned[len(array) :] = 0
        stream.upload(self.device, self.host, pinned.nbytes)


class OnnxRuntimeGpuSession:
    """A model on a GPU by one of ONNX Runtime's providers.

    Inputs are copied into pinned memory and from there to the device, the model runs, and outputs
    are copied back, all on one stream without waiting between. Batches larger than
    `batch.max` of the manifest are split. The CUDA provider captures its work into graphs, one for
    each of a few sizes to which batches are padded, where no input has lists.

    Raises
    ------
    ModelError
        If a library or the GPU is missing, or a node of the model would run on the CPU.
    """

    def __init__(self, model: Model, kind: str, number: int) -> None:
        require(kind, number)
        require_any_batch(model.path, model.label, f"onnxruntime:{kind}")
        self.backend = f"onnxruntime:{kind}:{number}" if number else f"onnxruntime:{kind}"
        self._number = number
        self._min_events, self._max_events = model.manifest.batch.min, model.manifest.batch.max
        # The TensorRT provider keeps a single graph, for one batch size.
        self._captured = kind == "cuda" and not any(
            tensor.max_items or tensor.companion_of for tensor in model.manifest.inputs
        )
        self._bindings: dict[tuple[tuple[int, ...], ...], tuple[Any, Any]] = {}
        self._resources = ExitStack()
        try:
            self._open(model, kind)
        except BaseException:
            with suppress(Exception):  # an error of the clean-up would hide the first
                self.close()
            raise

    def _open(self, model: Model, kind: str) -> None:
        self._cuda = Cuda(self._number)
        self._cuda.use()
        self._stream = Stream(self._cuda)
        self._resources.callback(self._stream.free)
        manifest = model.manifest
        lists = {tensor.name: tensor.max_items for tensor in manifest.inputs if tensor.max_items}
        made = {
            tensor.name: _Tensor(self._cuda, tensor, lists, self._max_events, self._resources)
            for tensor in (*manifest.inputs, *manifest.outputs)
        }
        self._inputs = {tensor.name: made[tensor.name] for tensor in manifest.inputs}
        self._outputs = {tensor.name: made[tensor.name] for tensor in manifest.outputs}
        self._session = self._load(model, kind)
        self._resources.callback(self._release)
        check_signature(model, self._session, read_onnx_file(model.path, model.label))
        if self._captured:
            self._capture(model)

    def infer(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Fill `outputs` from `inputs`, arrays (N, ...) by tensor name."""
        self._cuda.use()
        events = len(next(iter(outputs.values())))
        for start in range(0, events, self._max_events):
            rows = slice(start, min(start + self._max_events, events))
            self._infer_piece(
                {name: inputs[name][rows] for name in self._inputs},
                {name: outputs[name][rows] for name in self._outputs},
            )

    def close(self) -> None:
        """Release the session, its memory and its stream."""
        self._resources.close()

    def _release(self) -> None:
        self._stream.synchronise()
        self._bindings.clear()
        del self._session

    def _capture(self, model: Model) -> None:
        """Run the model on zeros twice at each size: to allocate memory, and to capture it."""
        events = 1
        while events <= self._max_events:
            events = size = self._size(events)
            inputs = {t.name: t.column.zeros(size) for t in model.manifest.inputs}
            outputs = {t.name: t.column.empty(size) for t in model.manifest.outputs}
            for _ in range(2):
                self._infer_piece(inputs, outputs)
            events += 1

    def _infer_piece(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        events = len(next(iter(outputs.values())))
        size = self._size(events)
        for name, array in inputs.items():
            self._inputs[name].upload(self._stream, array, size)
        binding, options = self._bound(inputs, outputs, size)
        self._session.run_with_iobinding(binding, options)
        pinned = {}
        for name, array in outputs.items():
            tensor = self._outputs[name]
            pinned[name] = tensor.host.on_host(array.shape, tensor.dtype.name)
            self._stream.download(tensor.host, tensor.device, array.nbytes)
        self._stream.synchronise()
        for name, array in outputs.items():
            array[:] = pinned[name]

    def _size(self, events: int) -> int:
        """Return the size to which `events` events are padded."""
        if not self._captured:
            return max(self._min_events, events)
        return min(self._max_events, max(_FIRST_SIZE, 1 << (events - 1).bit_length()))

    def _bound(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], size: int
    ) -> tuple[Any, Any]:
        """Return the binding for these shapes, and the options of a run with it."""
        key = tuple((size, *array.shape[1:]) for array in inputs.values())
        if key not in self._bindings:
            if not self._captured:  # shapes vary with the lists: only the latest binding is kept
                self._bindings.clear()
            self._bindings[key] = self._bind(inputs, outputs, size)
        return self._bindings[key]

    def _bind(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], size: int
    ) -> tuple[Any, Any]:
        binding, options = self._session.io_binding(), ort.RunOptions()
        for tensors, arrays, bind in (
            (self._inputs, inputs, binding.bind_input),
            (self._outputs, outputs, binding.bind_output),
        ):
            for name, array in arrays.items():
                tensor = tensors[name]
                shape = tensor.shape_of(array, size)
                address = tensor.device.address
                bind(name, "cuda", self._number, tensor.dtype.type, shape, address)
        # Later work on the same stream starts after it.
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        if self._captured:
            options.add_run_config_entry("gpu_graph_id", str(len(self._bindings) + 1))
        return binding, options

    def _load(self, model: Model, kind: str) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Fail instead of running some nodes on the CPU.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        providers = PROVIDERS[kind]
        try:
            session = ort.InferenceSession(
                str(model.path), options, providers=list(providers),
                provider_options=self._options(model, providers), enable_fallback=0,
            )  # fmt: skip
        except Exception as error:  # its exceptions share no base class
            raise ModelError(
                f"model {model.label}: {self.backend}: ONNX Runtime cannot load it: {error}",
                "`sluice doctor --gpu` tells what this machine has",
            ) from error
        got = session.get_providers()
        if tuple(got[: len(providers)]) != providers:
            raise ModelError(
                f"model {model.label}: {self.backend}: expected {', '.join(providers)}, "
                f"got {', '.join(got)}",
                "`sluice doctor --gpu` tells what this machine lacks",
            )
        return session

    def _options(self, model: Model, providers: tuple[str, ...]) -> list[dict[str, str]]:
        stream = self._stream.address
        cuda = cuda_options(self._number, stream, captured=self._captured)
        if len(providers) == 1:
            return [cuda]
        # The provider has no option for it. Models in fp32 use fp32 unless the user set it.
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
        cache = engine_cache(folder(), model, self._cuda.gpu())
        cache.mkdir(parents=True, exist_ok=True)
        return [tensorrt_options(model, self._number, stream, cache), cuda]


def engine_cache(root: Path, model: Model, gpu: GpuInfo) -> Path:
    """Return the folder of a model's plans, specific to GPU, driver, versions and model file."""
    sizes = model.manifest.batch
    here = f"{gpu.name} {gpu.capability} {gpu.driver} {ort.__version__}"
    what = f"{model.manifest.digest} {sizes.min} {sizes.opt} {sizes.max}"
    digests = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in (here, what)]
    return root / "onnxruntime" / digests[0] / f"{model.manifest.name}-{digests[1]}"
