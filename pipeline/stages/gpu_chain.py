"""A chain of stages on a GPU: columns go up once, and only those asked for come back."""

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
from sluice.pipeline.inference.repository import find_model
from sluice.pipeline.inference.session import open_session
from sluice.pipeline.inference.tensorrt import parse_device
from sluice.pipeline.inference.tensorrt_engine import TensorRtEngine

from .base import RunsOnGpu


class _Model(Struct, frozen=True, forbid_unknown_fields=True):
    """A step ``infer``: which model, between which columns; as in the stage of that name."""

    model: str
    version: int | None = None
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}


class GpuChain:
    """Stages that a GPU does in a row, one model among them, as one stage of the graph."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """What is done, where, and what comes back."""

        #: Tables as ``[[stage]]`` has them, in order; one of them is an ``infer``.
        steps: Annotated[tuple[dict[str, Any], ...], Meta(min_length=1)]
        #: Columns that come back: those that later stages, monitors and the sink read.
        columns: tuple[str, ...]
        #: ``N``, ``PRECISION`` or ``N:PRECISION``, as the backend ``tensorrt`` takes it.
        device: str = ""

    def __init__(self, name: str, options: Options) -> None:
        self.name, self._device = name, options.device
        self._kernels: list[RunsOnGpu | None] = [self._step(step) for step in options.steps]
        self._join(options.columns)

    def _step(self, table: dict[str, Any]) -> RunsOnGpu | None:
        """Return the stage of a step, None for the model's, which is looked up here."""
        where = f"stage {self.name!r}: steps"
        options = dict(table)
        use = options.pop("use", "")
        if use == "infer":
            if hasattr(self, "model"):
                raise ConfigError(f"{where}: expected one step 'infer', got more")
            chosen = strict_convert(options, _Model, f"{where}: infer")
            self.model = find_model(chosen.model, chosen.version)
            self._tensors = {**chosen.inputs, **chosen.outputs}
            return None
        stage = build("stage", ComponentConfig(str(use), self.name, options), where)
        if not isinstance(stage, RunsOnGpu):
            raise ConfigError(f"{where}: no GPU does {use!r}")
        return stage

    def _join(self, wanted: tuple[str, ...]) -> None:
        """Find out which columns go up, which come back, and which stay on the device."""
        if not hasattr(self, "model"):
            raise ConfigError(f"stage {self.name!r}: steps: expected one 'infer', got none")
        up, made = dict[str, Column](), dict[str, Column]()
        for stage in self._kernels:
            consumed, provided = self._of_model() if stage is None else _of(stage)
            for column in consumed:
                before = made.get(column.name) or up.setdefault(column.name, column)
                if (before.dtype, before.shape) != (column.dtype, column.shape):
                    raise ConfigError(
                        f"stage {self.name!r}: steps: column {column.name!r}: expected "
                        f"{column.spec}, got {before.spec}"
                    )
            for column in provided:
                if column.name in made:
                    raise ConfigError(
                        f"stage {self.name!r}: steps: two of them write column {column.name!r}"
                    )
                made[column.name] = column
        for name in wanted:
            if name not in made:
                raise ConfigError(
                    f"stage {self.name!r}: columns: no step provides {name!r}",
                    did_you_mean(name, made),
                )
        verdicts = [column for stage in self._kernels if stage for column in stage.status_columns]
        self.consumes, self.provides = Schema(up.values()), Schema(made.values()).select(wanted)
        self._down = Schema((*self.provides, *verdicts))
        self._inner = [column for column in made.values() if column.name not in self._down]

    def _of_model(self) -> tuple[list[Column], list[Column]]:
        manifest = self.model.manifest
        lists = [tensor.name for tensor in manifest.inputs if tensor.max_items]
        if lists:
            raise ConfigError(f"stage {self.name!r}: steps: model {self.model.label} takes lists")
        inputs, outputs = (
            [replace(t.column, name=self._tensors.get(t.name, t.name)) for t in tensors]
            for tensors in (manifest.inputs, manifest.outputs)
        )
        return inputs, outputs

    def open(self, events: int) -> None:
        """Hold the model to its golden outputs, then take what is needed on the device."""
        where = f"stage {self.name!r}"
        open_session(self.model, f"tensorrt:{self._device}", where).close()
        try:
            import_module("sluice.kernels.cuda")
        except ImportError as error:
            raise ModelError(f"{where}: {error}", INSTALL) from error
        self._own = ExitStack()
        try:
            self._take()
        except BaseException:
            with suppress(Exception):  # the first failure is what counts
                self._own.close()
            raise
        self._pool = OutputBuffers(self._down, events)

    def _take(self) -> None:
        index, precision = parse_device(self._device)
        cuda = Cuda(index)
        cuda.use()
        asked = precision or self.model.manifest.precision
        self._engine = TensorRtEngine(self.model, cuda, asked, self._own)
        cargo = TensorLayout(_rooms(self.consumes), _rooms(self._inner), _rooms(self._down))
        self._ferry = DoubleBufferedExecutor(
            cuda, cargo, self._engine.rows, self._program, self._own
        )
        self._ferry.capture({room.name: room.shape for room in cargo.inputs}, self._engine.rows[1])

    def _program(self, berth: StreamBuffers, shapes: Shapes) -> Callable[[], None]:
        """Return what queues all steps: kernels write where the engine reads, and back."""
        arrays = berth.arrays(shapes)
        run_model = self._engine.bind(berth, shapes, self._tensors)
        stream = berth.stream.address

        def enqueue() -> None:
            for stage in self._kernels:
                if stage is None:
                    run_model()
                else:
                    stage.enqueue(arrays, stream)

        return enqueue

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with the columns asked for, bad events flagged."""
        made = dict(zip(self._down.names, self._pool.arrays(batch.events), strict=True))
        inputs = {name: batch[name] for name in self.consumes.names}
        self._ferry.run(batch.events, inputs, made)
        batch = batch.with_columns(**{name: made[name] for name in self.provides.names})
        for stage in self._kernels:
            if stage is not None:
                batch = stage.judge(batch, made)
        return batch

    def close(self) -> None:
        """Free everything on the device."""
        self._own.close()

    def report(self, events: int) -> dict[str, Any]:
        """Return the steps' parts of the run report."""
        found: dict[str, Any] = {}
        for stage in self._kernels:
            found |= getattr(stage, "report", lambda events: {})(events)
        return found

    def model_info(self) -> dict[str, str]:
        """Return name, version, sha256 and backend."""
        manifest = self.model.manifest
        device = f":{self._device}" if self._device else ""
        return {"name": manifest.name, "version": str(manifest.version),
                "sha256": manifest.sha256, "backend": f"tensorrt{device}"}  # fmt: skip


def _of(stage: RunsOnGpu) -> tuple[Schema, list[Column]]:
    return stage.consumes, [*stage.provides, *stage.status_columns]


def _rooms(columns: Iterable[Column]) -> list[TensorSpec]:
    return [TensorSpec(column.name, column.dtype, column.item_shape) for column in columns]
