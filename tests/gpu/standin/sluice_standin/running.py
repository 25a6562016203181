"""TensorRT's runtime: engines and execution contexts that work through ONNX Runtime."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Callable
from enum import Enum, IntEnum
from typing import Any

import numpy as np

from .building import MAGIC
from .logging import ILogger
from .machine import MACHINE, Op, Span, StandInError, Stream

#: Bytes of working memory that each engine wants.
_WORK = 4096
#: Objects that hold memory of a device; all must be gone at the end.
ALIVE: weakref.WeakSet[Any] = weakref.WeakSet()


class TensorIOMode(IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class ExecutionContextAllocationStrategy(IntEnum):
    STATIC = 0
    USER_MANAGED = 2


class LayerInformationFormat(IntEnum):
    ONELINE = 0
    JSON = 1


class DataType(Enum):
    FLOAT = "float32"
    HALF = "float16"
    INT8 = "int8"
    INT32 = "int32"
    INT64 = "int64"
    BOOL = "bool"
    UINT8 = "uint8"

    @property
    def _numpy(self) -> np.dtype[Any]:
        return np.dtype(self.value)


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger
        ALIVE.add(self)

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        from .trt import __version__

        data = bytes(serialized_engine)
        if not data.startswith(MAGIC):
            self.logger.log(ILogger.ERROR, "Error Code 1: Serialization: magic tag does not match")
            return None
        about, graph = data[len(MAGIC) :].split(b"\n", 1)
        made = json.loads(about)
        if made["tensorrt"] != __version__:
            self.logger.log(ILogger.ERROR, "Error Code 6: Stale serialization")
            return None
        return ICudaEngine(self, made, graph)


class ICudaEngine:
    def __init__(self, runtime: Runtime, about: dict[str, Any], graph: bytes) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.x64quantprecision", "1")  # exact on any processor
        self._runtime, self._about = runtime, about
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        ALIVE.add(self)

    @property
    def num_io_tensors(self) -> int:
        return len(self._about["inputs"]) + len(self._about["outputs"])

    @property
    def device_memory_size_v2(self) -> int:
        return _WORK

    def get_tensor_name(self, index: int) -> str:
        name: str = (self._about["inputs"] + self._about["outputs"])[index]
        return name

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        if name in self._about["inputs"]:
            return TensorIOMode.INPUT
        return TensorIOMode.OUTPUT if name in self._about["outputs"] else TensorIOMode.NONE

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType(self._about["tensors"][name][0])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._about["tensors"][name][1])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        if profile_index != 0:
            raise StandInError(f"there is no profile {profile_index}")
        return [tuple(shape) for shape in self._about["profile"][name]]

    def create_execution_context(
        self,
        strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC,
    ) -> IExecutionContext:
        MACHINE.forbid_while_capturing("making an execution context")
        return IExecutionContext(self, strategy)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self)


class EngineInspector:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine

    def get_engine_information(self, format: LayerInformationFormat) -> str:
        about = self._engine._about
        layers = about["layers"] if about["detailed"] else [row["Name"] for row in about["layers"]]
        return json.dumps({"Layers": layers, "Bindings": about["inputs"] + about["outputs"]})


class IExecutionContext:
    def __init__(self, engine: ICudaEngine, strategy: ExecutionContextAllocationStrategy) -> None:
        self._engine, self._managed = engine, strategy
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._work: Span | None = None
        self._changes = 0
        self._run_with: tuple[int, ...] | None = None
        ALIVE.add(self)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self._engine.get_tensor_mode(name) is not TensorIOMode.INPUT:
            raise StandInError(f"{name!r} is no input")
        smallest, _, largest = self._engine.get_tensor_profile_shape(name, 0)
        if len(shape) != len(smallest) or not all(
            a <= n <= b for a, n, b in zip(smallest, shape, largest, strict=True)
        ):
            return False
        self._shapes[name] = tuple(shape)
        self._changes += 1
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if self._engine.get_tensor_mode(name) is TensorIOMode.NONE or memory % 256:
            return False
        self._addresses[name] = memory
        self._changes += 1
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        if self._managed is not ExecutionContextAllocationStrategy.USER_MANAGED:
            raise StandInError("this context has working memory of its own")
        if size < self._engine.device_memory_size_v2:
            raise StandInError(f"expected {_WORK} bytes of working memory, got {size}")
        self._work = memory, size
        self._changes += 1

    def execute_async_v3(self, stream_handle: int) -> bool:
        stream = MACHINE.get(stream_handle, Stream)
        spans = self._spans()
        if stream.capturing is not None and self._run_with != (self._changes,):
            raise StandInError("an engine is captured that has not run with these shapes before")
        self._run_with = (self._changes,)
        changes, about = self._changes, self._engine._about

        def start() -> Callable[[], None]:
            def work() -> None:
                if self._changes != changes:
                    raise StandInError("the context was changed since it was queued or captured")
                self._execute(spans)

            return work

        written = [spans[name] for name in about["outputs"]] + [spans[""]]
        op = Op("engine", [spans[name] for name in about["inputs"]], written, start)
        MACHINE.submit(stream, op)
        return True

    def _spans(self) -> dict[str, Span]:
        """Return where each tensor is, and the working memory as ''; refuse what is not set."""
        about = self._engine._about
        for name in about["inputs"]:
            if name not in self._shapes and -1 in self._engine.get_tensor_shape(name):
                raise StandInError(f"input {name!r} has no shape")
        spans = {}
        for name in about["inputs"] + about["outputs"]:
            if name not in self._addresses:
                raise StandInError(f"tensor {name!r} has no address")
            spans[name] = self._addresses[name], self._nbytes(name)
        if self._work is None and self._managed is ExecutionContextAllocationStrategy.USER_MANAGED:
            raise StandInError("the context has no working memory")
        spans[""] = self._work or (0, 0)
        for name, (address, nbytes) in spans.items():
            if nbytes:
                MACHINE.memory(address, nbytes, "device", f"tensor {name!r}")
        return spans

    def _shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        rows = next(iter(self._shapes.values()))[0]
        return tuple(rows if n < 0 else n for n in self._engine.get_tensor_shape(name))

    def _nbytes(self, name: str) -> int:
        itemsize = self._engine.get_tensor_dtype(name)._numpy.itemsize
        return math.prod(self._shape(name)) * itemsize

    def _execute(self, spans: dict[str, Span]) -> None:
        about = self._engine._about
        feed = {name: self._array(name, spans[name]) for name in about["inputs"]}
        made = self._engine._session.run(about["outputs"], feed)
        for name, array in zip(about["outputs"], made, strict=True):
            self._array(name, spans[name])[...] = array
        if spans[""][1]:
            MACHINE.memory(*spans[""], "device", "working memory").fill(0)

    def _array(self, name: str, span: Span) -> Any:
        raw = MACHINE.memory(*span, "device", f"tensor {name!r}")
        return raw.view(self._engine.get_tensor_dtype(name)._numpy).reshape(self._shape(name))
