"""TensorRT's builder: a plan is the ONNX graph itself and what it was built for."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from enum import IntEnum
from typing import Any

from .logging import ILogger
from .machine import StandInError

MAGIC = b"stand-in plan\n"


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(IntEnum):
    TF32 = 7


class ProfilingVerbosity(IntEnum):
    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class IHostMemory:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.nbytes = len(data)

    def __bytes__(self) -> bytes:
        return self._data


class ITensor:
    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, shape


class INetworkDefinition:
    def __init__(self) -> None:
        self._graph = b""
        self._inputs: list[ITensor] = []
        self._about: dict[str, Any] = {}

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]


class IProgressMonitor(ABC):
    def __init__(self) -> None:
        self._made = True

    @abstractmethod
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...

    @abstractmethod
    def step_complete(self, phase_name: str, step: int) -> bool: ...

    @abstractmethod
    def phase_finish(self, phase_name: str) -> None: ...


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self._shapes[input] = [list(min), list(opt), list(max)]


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._data + b".")


class IBuilderConfig:
    profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
    progress_monitor: IProgressMonitor | None = None

    def __init__(self) -> None:
        self._profiles: list[IOptimizationProfile] = []
        self._flags = {BuilderFlag.TF32}  # as the real one has it
        self._cache: ITimingCache | None = None

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def set_flag(self, flag: BuilderFlag) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self._flags.discard(flag)

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache:
        if self._cache is None:
            raise StandInError("there is no timing cache")
        return self._cache


class ParserError:
    def __init__(self, node: int, name: str, operator: str, desc: str) -> None:
        self._said = node, name, operator, desc

    def node(self) -> int:
        return self._said[0]

    def node_name(self) -> str:
        return self._said[1]

    def node_operator(self) -> str:
        return self._said[2]

    def desc(self) -> str:
        return self._said[3]


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse(self, model: bytes, path: str | None = None) -> bool:
        import onnx
        from google.protobuf.message import DecodeError

        try:
            graph = onnx.load_from_string(model).graph
        except DecodeError:
            self._errors.append(ParserError(-1, "", "", "Failed to parse the ONNX model."))
            return False
        domains = ("", "ai.onnx")
        for n, node in enumerate(graph.node):
            if node.domain not in domains or not onnx.defs.has(node.op_type):
                why = "Plugin not found, are the plugin name, version, and namespace correct?"
                self._errors.append(ParserError(n, node.name, node.op_type, why))
                return False
        constants = {value.name for value in graph.initializer}
        tensors = {v.name: _form(v) for v in (*graph.input, *graph.output)}
        inputs = [v.name for v in graph.input if v.name not in constants]
        self._network._graph = model
        self._network._inputs = [ITensor(name, tuple(tensors[name][1])) for name in inputs]
        self._network._about = {
            "inputs": inputs,
            "outputs": [v.name for v in graph.output],
            "tensors": tensors,
            "layers": [{"Name": node.name, "LayerType": node.op_type} for node in graph.node],
        }
        return True


def _form(value: Any) -> tuple[str, list[int]]:
    import onnx

    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return dtype, [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]


class Builder:
    def __init__(self, logger: ILogger) -> None:
        if not isinstance(logger, ILogger):
            raise TypeError("expected an ILogger")
        self.logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        if not flags & 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED:
            raise StandInError("expected a strongly typed network: 11 knows no other")
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        why = self._wrong(network, config)
        if why or not _progress(config.progress_monitor, len(network._about["layers"])):
            self.logger.log(ILogger.ERROR, why or "the build was cancelled")
            return None
        from .trt import __version__

        about = {
            **network._about,
            "tensorrt": __version__,
            "profile": config._profiles[0]._shapes,
            "tf32": BuilderFlag.TF32 in config._flags,
            "detailed": config.profiling_verbosity == ProfilingVerbosity.DETAILED,
        }
        return IHostMemory(MAGIC + json.dumps(about).encode() + b"\n" + network._graph)

    def _wrong(self, network: INetworkDefinition, config: IBuilderConfig) -> str:
        if not config._profiles:
            return "Network has dynamic inputs, but no optimization profile has been defined."
        shapes = config._profiles[0]._shapes
        for tensor in network._inputs:
            if tensor.name not in shapes:
                return f"input {tensor.name} is missing in optimization profile 0"
            smallest, best, largest = shapes[tensor.name]
            for at, size in enumerate(tensor.shape):
                if not smallest[at] <= best[at] <= largest[at] or (size >= 0 and best[at] != size):
                    return f"optimization profile 0 is not valid for input {tensor.name}"
        return ""


def _progress(monitor: IProgressMonitor | None, steps: int) -> bool:
    """Tell the monitor of nested phases; False if it wants the build to end."""
    if monitor is None:
        return True
    going = True
    monitor.phase_start("Building an engine", None, 1)
    monitor.phase_start("Timing kernels", "Building an engine", steps)
    for step in range(steps):
        going = going and monitor.step_complete("Timing kernels", step)
    monitor.phase_finish("Timing kernels")
    going = going and monitor.step_complete("Building an engine", 0)
    monitor.phase_finish("Building an engine")
    return going
