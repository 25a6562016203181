"""The stage ``gpu-chain``: stages on a GPU, with one copy to the device and one back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from importlib import import_module
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace

from sluice.pipeline.config.graph_file import ComponentConfig
from sluice.pipeline.config.plugins import build
from sluice.pipeline.config.strict import strict_convert
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.buffers import OutputBuffers
from sluice.pipeline.core.errors import ConfigError, ModelError, did_you_mean
from sluice.pipeline.core.schema import Column, Schema
from sluice.pipeline.gpu.cuda import INSTALL, Cuda
from sluice.pipeline.gpu.double_buffer import (
    DoubleBufferedExecutor,
    Shapes,
    StreamBuffers,
    TensorLayout,
    TensorSpec,
)
from sluice.pipeline.inference.repository import Model, find_model
from sluice.pipeline.inference.session import open_session
from sluice.pipeline.inference.tensorrt import parse_device
from sluice.pipeline.inference.tensorrt_engine import TensorRtEngine

from .capabilities import Reports, RunsOnGpu

_RUNTIME = "tensorrt"


class _Model(Struct, frozen=True, forbid_unknown_fields=True):
    """The step ``infer``: a model and its columns, as in the stage of that name."""

    model: str
    version: int | None = None
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}


class GpuChain:
    """Runs several stages on a GPU, one model among them, as one stage of the graph."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """The steps, the columns to copy back, and the device."""

        #: Steps in order, each with the keys of a table ``[[stage]]``; exactly one is an ``infer``.
        steps: Annotated[tuple[dict[str, Any], ...], Meta(min_length=1)]
        #: Columns to copy back to the host, for later stages, monitors and the sink.
        columns: tuple[str, ...]
        #: GPU and precision, ``N``, ``PRECISION`` or ``N:PRECISION``.
        device: str = ""
        #: Backend ``tensorrt`` or ``tensorrt:DEVICE``, instead of `device`.
        backend: str = ""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        runtime, _, device = options.backend.partition(":")
        if options.backend and runtime != _RUNTIME:
            raise ConfigError(
                f"stage {name!r}: backend: expected {_RUNTIME!r} or '{_RUNTIME}:DEVICE', "
                f"got {options.backend!r}"
            )
        self._device = device if options.backend else options.device
        self._steps: list[RunsOnGpu | None] = [self._step(step) for step in options.steps]
        self._join(options.columns)

    def _step(self, table: dict[str, Any]) -> RunsOnGpu | None:
        """Return the stage of a step; for the step ``infer`` find its model and return None."""
        where = f"stage {self.name!r}: steps"
        options = dict(table)
        use = options.pop("use", "")
        if use == "infer":
            if hasattr(self, "model"):
                raise ConfigError(f"{where}: expected one step 'infer', got more")
            step = strict_convert(options, _Model, f"{where}: infer")
            self.model = find_model(step.model, step.version)
            self._columns = {**step.inputs, **step.outputs}
            return None
        stage = build("stage", ComponentConfig(str(use), self.name, options), where)
        if not isinstance(stage, RunsOnGpu):
            raise ConfigError(f"{where}: expected stages that can run on a GPU, got {use!r}")
        return stage

    def _join(self, wanted: tuple[str, ...]) -> None:
        """Divide the columns into inputs, outputs, and those that stay on the device."""
        if not hasattr(self, "model"):
            raise ConfigError(f"stage {self.name!r}: steps: expected one 'infer', got none")
        inputs, added = dict[str, Column](), dict[str, Column]()
        for stage in self._steps:
            consumed, provided = self._model_columns() if stage is None else _stage_columns(stage)
            for column in consumed:
                before = added.get(column.name) or inputs.setdefault(column.name, column)
                if (before.dtype, before.shape) != (column.dtype, column.shape):
                    raise ConfigError(
                        f"stage {self.name!r}: steps: column {column.name!r}: expected "
                        f"{column.spec}, got {before.spec}"
                    )
            for column in provided:
                if column.name in added:
                    raise ConfigError(
                        f"stage {self.name!r}: steps: two of them write column {column.name!r}"
                    )
                added[column.name] = column
        for name in wanted:
            if name not in added:
                raise ConfigError(
                    f"stage {self.name!r}: columns: no step provides {name!r}",
                    did_you_mean(name, added),
                )
        status = [column for stage in self._steps if stage for column in stage.status_columns]
        self.consumes = Schema(inputs.values())
        self.provides = Schema(added.values()).select(wanted)
        self._outputs = Schema((*self.provides, *status))
        self._scratch = [column for column in added.values() if column.name not in self._outputs]

    def _model_columns(self) -> tuple[list[Column], list[Column]]:
        manifest = self.model.manifest
        lists = [tensor.name for tensor in manifest.inputs if tensor.max_items]
        if lists:
            raise ConfigError(f"stage {self.name!r}: steps: model {self.model.label} takes lists")
        inputs, outputs = (
            [replace(t.column, name=self._columns.get(t.name, t.name)) for t in tensors]
            for tensors in (manifest.inputs, manifest.outputs)
        )
        return inputs, outputs

    def open(self, events: int) -> None:
        """Check the model against its golden outputs, then allocate and capture on the device."""
        where = f"stage {self.name!r}"
        open_session(self.model, f"{_RUNTIME}:{self._device}", where).close()
        try:
            import_module("sluice.kernels.cuda")
        except ImportError as error:
            raise ModelError(f"{where}: {error}", INSTALL) from error
        self._resources = ExitStack()
        try:
            self._open_device()
        except BaseException:
            with suppress(Exception):  # the first error is raised, not one of the clean-up
                self._resources.close()
            raise
        self._pool = OutputBuffers(self._outputs, events)

    def _open_device(self) -> None:
        index, precision = parse_device(self._device)
        cuda = Cuda(index)
        cuda.use()
        precision = precision or self.model.manifest.precision
        self._engine = TensorRtEngine(self.model, cuda, precision, self._resources)
        layout = TensorLayout(
            _tensor_specs(self.consumes), _tensor_specs(self._scratch), _tensor_specs(self._outputs)
        )
        self._executor = DoubleBufferedExecutor(
            cuda, layout, self._engine.rows, self._enqueue_factory, self._resources
        )
        shapes = {tensor.name: tensor.shape for tensor in layout.inputs}
        self._executor.capture(shapes, self._engine.rows[1])

    def _enqueue_factory(self, buffers: StreamBuffers, shapes: Shapes) -> Callable[[], None]:
        """Return a function that queues all steps; model and kernels share the device arrays."""
        arrays = buffers.arrays(shapes)
        run_model = self._engine.bind(buffers, shapes, self._columns)
        stream = buffers.stream.address

        def enqueue() -> None:
            for stage in self._steps:
                if stage is None:
                    run_model()
                else:
                    stage.enqueue(arrays, stream)

        return enqueue

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with the columns to copy back, and invalid events flagged."""
        outputs = dict(zip(self._outputs.names, self._pool.arrays(batch.events), strict=True))
        inputs = {name: batch[name] for name in self.consumes.names}
        self._executor.run(batch.events, inputs, outputs)
        batch = batch.with_columns(**{name: outputs[name] for name in self.provides.names})
        for stage in self._steps:
            if stage is not None:
                batch = stage.check(batch, outputs)
        return batch

    def close(self) -> None:
        """Free the memory and graphs on the device."""
        self._resources.close()

    def report(self, events: int) -> dict[str, Any]:
        """Return the keys that the steps add to the run report."""
        entries: dict[str, Any] = {}
        for stage in self._steps:
            if isinstance(stage, Reports):
                entries |= stage.report(events)
        return entries

    def model_info(self) -> dict[str, str]:
        """Return name, version, sha256 and backend of the model."""
        manifest = self.model.manifest
        device = f":{self._device}" if self._device else ""
        return {"name": manifest.name, "version": str(manifest.version),
                "sha256": manifest.digest, "backend": f"{_RUNTIME}{device}"}  # fmt: skip

    def models(self) -> tuple[tuple[Model, str], ...]:
        """Return the model, with its backend."""
        return ((self.model, f"{_RUNTIME}:{self._device}"),)

    def backends(self) -> tuple[str, ...]:
        """Return TensorRT, the only backend that reads arrays in device memory."""
        return (_RUNTIME,)


def _stage_columns(stage: RunsOnGpu) -> tuple[Schema, list[Column]]:
    return stage.consumes, [*stage.provides, *stage.status_columns]


def _tensor_specs(columns: Iterable[Column]) -> list[TensorSpec]:
    return [TensorSpec(column.name, column.dtype, column.item_shape) for column in columns]
