"""Conversion from ONNX to TensorRT: a strongly typed network, its plan, and the plan's fingerprint.

Precision is what the ONNX graph says, in TensorRT 10 as in 11: 16 bits are a graph cast to them,
8 bits are pairs of quantise and dequantise. Only members common to both are used.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import tensorrt as trt
from rich.progress import Progress, TaskID

from sluice.exporters.cli import require
from sluice.exporters.training.parallel import progress
from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.core.output_files import require_replaceable, write_whole
from sluice.pipeline.gpu.cuda import Cuda, GpuInfo
from sluice.pipeline.inference import tensorrt_plans
from sluice.pipeline.inference.manifest import BatchSizes, Tensor
from sluice.pipeline.inference.repository import Model, all_models, find_model
from sluice.pipeline.inference.tensorrt_plans import Fingerprint, Range


@dataclass(frozen=True)
class Built:
    """A plan that was built: file, fingerprint, size in bytes, time of the build in seconds."""

    file: Path
    fingerprint: Fingerprint
    nbytes: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes as plain values, for JSON."""
        facts: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self.fingerprint))
        return {"file": str(self.file), "bytes": self.nbytes, "seconds": self.seconds, **facts}


def build(
    model: Model,
    precision: str,
    batch: BatchSizes,
    root: Path,
    layers: Path | None = None,
    *,
    force: bool = False,
) -> Built:
    """Build the engine plan of a model for the first GPU.

    Parameters
    ----------
    model
        The model.
    precision
        Precision, one of `tensorrt_plans.PRECISIONS`.
    batch
        Events at once.
    root
        Folder of plans.
    layers
        File for the report on each layer, JSON.
    force
        Whether an earlier plan, and an earlier report, are replaced.

    Raises
    ------
    ConfigError
        If a file exists that may not be replaced.
    ModelError
        If the model has a part that TensorRT does not take, or no engine comes of it.
    """
    began = time.monotonic()
    cuda = Cuda()
    cuda.use()
    gpu = cuda.gpu()
    file = tensorrt_plans.plan_file(root, model, precision, gpu)
    tensorrt_plans.require_plan_replaceable(file, force=force)
    if layers is not None:
        require_replaceable(layers, "a report on layers", _is_layer_report, force=force)
    log = _Log()
    builder = trt.Builder(log)
    network = _parse(builder, graph_for(model, precision), model, log)
    config = builder.create_builder_config()
    ranges = _profile(builder, config, network, model, batch)
    plan = _compile(builder, network, config, precision, tensorrt_plans.timing_file(
        root, gpu, trt.__version__), model, log)  # fmt: skip
    if layers is not None:
        write_whole(layers, _inspect(plan, log).encode(), replace=force)
    fingerprint = _fingerprint(model, precision, gpu, ranges)
    sealed = tensorrt_plans.save_plan(file, plan, fingerprint, replace=force)
    return Built(file, sealed, len(plan), time.monotonic() - began)


def graph_for(model: Model, precision: str) -> bytes:
    """Return a model's ONNX graph in a precision: its own, its variant's, or made from its own."""
    own = model.manifest.precision
    if precision == own or (precision, own) == ("tf32", "fp32"):
        return model.path.read_bytes()
    if own != "fp32":
        raise ModelError(f"model {model.label}: it is {own}: no graph in {precision} comes of it")
    variant = f"{model.manifest.name}-{precision}"
    if variant in {folder.parent.name for folder in all_models()}:
        return find_model(variant).path.read_bytes()
    require("onnx", "onnxruntime")
    from . import quantize

    data = model.path.read_bytes()
    return quantize.fp16(data) if precision == "fp16" else quantize.int8(data, model.golden()[0])


def _parse(builder: trt.Builder, graph: bytes, model: Model, log: _Log) -> trt.INetworkDefinition:
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strongly_typed)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph):
        reasons = [_describe(parser.get_error(n)) for n in range(parser.num_errors)]
        raise ModelError(
            f"model {model.label}: TensorRT {trt.__version__} does not take its graph: "
            + "; ".join(reasons or log.errors)
        )
    return network


def _describe(error: trt.ParserError) -> str:
    where = f"node {error.node()} {error.node_name()!r} ({error.node_operator()})"
    return f"{where}: {error.desc()}"


def _profile(
    builder: trt.Builder, config: trt.IBuilderConfig, network: trt.INetworkDefinition,
    model: Model, batch: BatchSizes,
) -> dict[str, Range]:  # fmt: skip
    """Add the one optimisation profile; return the shapes that it covers."""
    tensors = {tensor.name: tensor for tensor in model.manifest.inputs}
    profile = builder.create_optimization_profile()
    ranges = {}
    sizes = (batch.min, batch.opt, batch.max)
    for n in range(network.num_inputs):
        tensor = network.get_input(n)
        shape = tuple(tensor.shape)
        longest = _longest(tensors, tensor.name)
        min_shape, opt_shape, max_shape = (
            tuple(_open(n, axis, events, items) for axis, n in enumerate(shape))
            for events, items in zip(sizes, (1, longest, longest), strict=True)
        )
        profile.set_shape(tensor.name, min_shape, opt_shape, max_shape)
        ranges[tensor.name] = Range(min_shape, opt_shape, max_shape)
    config.add_optimization_profile(profile)
    return ranges


def _open(size: int, axis: int, events: int, items: int) -> int:
    """Return the size of an axis; the number of events or items where the graph leaves it open."""
    return size if size >= 0 else items if axis else events


def _longest(tensors: dict[str, Tensor], name: str) -> int:
    tensor = tensors.get(name)
    if tensor is None:
        return 1
    return (tensors[tensor.companion_of] if tensor.companion_of else tensor).max_items or 1


def _compile(
    builder: trt.Builder, network: trt.INetworkDefinition, config: trt.IBuilderConfig,
    precision: str, timing: Path, model: Model, log: _Log,
) -> bytes:  # fmt: skip
    """Return the plan; kernels timed before on this kind of GPU are not timed again."""
    (config.set_flag if precision == "tf32" else config.clear_flag)(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    cache = config.create_timing_cache(timing.read_bytes() if timing.is_file() else b"")
    config.set_timing_cache(cache, False)
    with progress() as bars:
        monitor = _Monitor(bars)
        config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise ModelError(
            f"model {model.label}: TensorRT {trt.__version__} builds no engine of it: "
            + "; ".join(log.errors)
        )
    tensorrt_plans.write_atomically(timing, bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def _inspect(plan: bytes, log: _Log) -> str:
    """Return TensorRT's report on each layer of a plan, JSON."""
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    inspector = engine.create_engine_inspector()
    said: str = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return said


def _is_layer_report(path: Path) -> bool:
    """Whether a file has the report that `_inspect` returns."""
    try:
        return "Layers" in msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return False


def _fingerprint(
    model: Model, precision: str, gpu: GpuInfo, ranges: dict[str, Range]
) -> Fingerprint:
    return Fingerprint(
        model=model.label, sha256=model.manifest.digest, precision=precision,
        tensorrt=trt.__version__, gpu=gpu.name, capability=gpu.capability,
        driver=gpu.driver, profile=ranges,
    )  # fmt: skip


class _Log(trt.ILogger):  # type: ignore[misc,unused-ignore]
    """Keeps the errors, which calls that fail do not return."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: Any, msg: str) -> None:
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.errors.append(msg)


class _Monitor(trt.IProgressMonitor):  # type: ignore[misc,unused-ignore]
    """Shows the phases of a build as bars; Ctrl-C ends it at the next step."""

    def __init__(self, bars: Progress) -> None:
        trt.IProgressMonitor.__init__(self)
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self.interrupted = False

    def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
        self._tasks[phase_name] = self._bars.add_task(phase_name, total=num_steps)

    def step_complete(self, phase_name: str, step: int) -> bool:
        try:
            self._bars.update(self._tasks[phase_name], completed=step + 1)
        except KeyboardInterrupt:  # it must not cross the library that calls
            self.interrupted = True
        return not self.interrupted

    def phase_finish(self, phase_name: str) -> None:
        self._bars.remove_task(self._tasks.pop(phase_name))
