"""TensorRT engines: a plan loaded on a device, checked against the manifest, bound to buffers.

Only members that TensorRT 10.16 and 11.4 have in common are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.gpu.cuda import Cuda, Memory
from sluice.pipeline.gpu.double_buffer import Shapes, StreamBuffers, TensorSpec

from . import tensorrt_plans
from .manifest import Tensor
from .repository import Model

if TYPE_CHECKING:
    import tensorrt as trt


class TensorRtEngine:
    """The plan of a model on a device.

    Parameters
    ----------
    model
        The model.
    cuda
        The device.
    precision
        Precision of the plan.
    resources
        Releases the engine and its memory when it is closed.

    Attributes
    ----------
    inputs, outputs
        Specifications of the tensors, with lists of the maximum length that the plan allows.
    rows
        Minimum and maximum batch size, events.
    """

    def __init__(self, model: Model, cuda: Cuda, precision: str, resources: ExitStack) -> None:
        import tensorrt as trt

        self._cuda, self._resources, self._model = cuda, resources, model
        plan = tensorrt_plans.load_plan(model, precision, cuda.gpu(), trt.__version__)
        self._user_managed = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise ModelError(
                f"model {model.label}: TensorRT {trt.__version__} does not take its plan",
                f"rebuild: {tensorrt_plans.build_command(model, precision)} --force",
            )
        self._engine: trt.ICudaEngine = engine
        self._runtime: trt.Runtime = runtime
        resources.callback(self._release)
        self._compare(trt.TensorIOMode.INPUT, model.manifest.inputs, "input")
        self._compare(trt.TensorIOMode.OUTPUT, model.manifest.outputs, "output")
        widest = {t.name: self._widest(t) for t in model.manifest.inputs}
        self.inputs = [TensorSpec(t.name, t.dtype, widest[t.name]) for t in model.manifest.inputs]
        self.outputs = [TensorSpec(t.name, t.dtype, t.shape) for t in model.manifest.outputs]
        profiles = [engine.get_tensor_profile_shape(tensor.name, 0) for tensor in self.inputs]
        self.rows = (
            max(shortest[0] for shortest, _, _ in profiles),
            min(longest[0] for _, _, longest in profiles),
        )

    def _release(self) -> None:
        del self._engine, self._runtime

    def _compare(self, mode: trt.TensorIOMode, tensors: tuple[Tensor, ...], role: str) -> None:
        """Raise ModelError if the tensors of a plan are not those of the manifest."""
        import tensorrt as trt

        engine = self._engine
        names = [engine.get_tensor_name(n) for n in range(engine.num_io_tensors)]
        actual = {name for name in names if engine.get_tensor_mode(name) == mode}
        where = f"model {self._model.label}"
        if actual != {tensor.name for tensor in tensors}:
            raise ModelError(
                f"{where}: manifest says {role}s {sorted(t.name for t in tensors)}, the plan has "
                f"{sorted(actual)}"
            )
        for tensor in tensors:
            dtype = str(trt.nptype(engine.get_tensor_dtype(tensor.name)).__name__)
            item = tuple(engine.get_tensor_shape(tensor.name))[1:]
            known = [a == b for a, b in zip(item, tensor.axes, strict=False) if a != -1 and b]
            if dtype != tensor.dtype or len(item) != len(tensor.axes) or not all(known):
                raise ModelError(
                    f"{where}: {role} {tensor.name!r}: manifest says {tensor.column.spec}, the "
                    f"plan has {dtype}{list(item)}"
                )

    def _widest(self, tensor: Tensor) -> tuple[int, ...]:
        """Return the largest item shape of an input that the profile allows."""
        _, _, largest = self._engine.get_tensor_profile_shape(tensor.name, 0)
        return tuple(largest)[1:]

    def bind(
        self, buffers: StreamBuffers, shapes: Shapes, columns: Mapping[str, str]
    ) -> Callable[[], None]:
        """Return a function that queues the engine on the stream of `buffers`, on its arrays.

        Each call makes an execution context: a captured graph is valid only as long as the shapes
        of the context that it was captured from do not change. The contexts of one set of buffers
        share their working memory, since its stream runs one of them at a time.

        Parameters
        ----------
        buffers
            Stream and device memory.
        shapes
            Shapes of the arrays in that memory, by name.
        columns
            Name of the array by tensor, where it differs from the name of the tensor.
        """
        work = self._working_memory(buffers)
        context = self._engine.create_execution_context(self._user_managed)
        if context is None:
            raise ModelError(f"model {self._model.label}: out of memory for an execution context")
        bound = [context]
        self._resources.callback(bound.clear)
        self._set_shapes(
            context, {r.name: shapes[columns.get(r.name, r.name)] for r in self.inputs}
        )
        for tensor in (*self.inputs, *self.outputs):
            memory = buffers.device[columns.get(tensor.name, tensor.name)]
            if not context.set_tensor_address(tensor.name, memory.address):
                raise ModelError(f"model {self._model.label}: {tensor.name!r}: address refused")
        context.set_device_memory(work.address, work.nbytes)
        stream = buffers.stream.address

        def enqueue() -> None:
            if not bound[0].execute_async_v3(stream):
                raise ModelError(f"model {self._model.label}: TensorRT refuses to run it")

        return enqueue

    def _set_shapes(self, context: trt.IExecutionContext, shapes: Shapes) -> None:
        for tensor in self.inputs:
            shape = tuple(shapes[tensor.name])
            smallest, _, largest = self._engine.get_tensor_profile_shape(tensor.name, 0)
            fits = all(a <= n <= b for a, n, b in zip(smallest, shape, largest, strict=True))
            if not fits or not context.set_input_shape(tensor.name, shape):
                raise ModelError(
                    f"model {self._model.label}: input {tensor.name!r}: expected a shape from "
                    f"{list(smallest)} to {list(largest)}, got {list(shape)}",
                    "build its plan for such shapes: sluice build-engine --batch",
                )

    def _working_memory(self, buffers: StreamBuffers) -> Memory:
        if _WORK not in buffers.device:
            memory = Memory(self._cuda, self._engine.device_memory_size_v2)
            self._resources.callback(memory.free)
            buffers.device[_WORK] = memory
        return buffers.device[_WORK]


#: Key of the engine's working memory among the tensors; no tensor has such a name.
_WORK = "/work"
