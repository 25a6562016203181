"""Native TensorRT engines: two pieces of a batch under way, each replayed as one CUDA graph."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial

from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.core.schema import Array
from sluice.pipeline.gpu.cuda import Cuda
from sluice.pipeline.gpu.double_buffer import DoubleBufferedExecutor, TensorLayout

from . import tensorrt_plans
from .repository import Model
from .tensorrt_engine import TensorRtEngine


class TensorRtSession:
    """A model as an engine on a GPU; see `Session`.

    Its device is ``N``, ``PRECISION`` or ``N:PRECISION``: the first GPU and the model's own
    precision unless said otherwise.

    Attributes
    ----------
    tolerance
        Greatest difference from the golden outputs that the precision asked for may cause.
    """

    def __init__(self, model: Model, device: str) -> None:
        index, asked = parse_device(device)
        precision = asked or model.manifest.precision
        self.backend = f"tensorrt:{index}:{precision}"
        self.tolerance = 0.0
        if precision != model.manifest.precision:
            self.tolerance = tensorrt_plans.TOLERANCE[precision]
        self._own = ExitStack()
        tensorrt_plans.require_tensorrt()
        try:
            self._open(model, index, precision)
        except BaseException:
            with suppress(Exception):  # the first failure is what counts
                self._own.close()
            raise

    @staticmethod
    def require_available(device: str) -> None:
        """Refuse where TensorRT, the driver or the GPU is missing; see `ChecksAvailability`."""
        index, _ = parse_device(device)
        tensorrt_plans.require_tensorrt()
        Cuda(index)

    def _open(self, model: Model, index: int, precision: str) -> None:
        cuda = Cuda(index)
        cuda.use()
        engine = TensorRtEngine(model, cuda, precision, self._own)
        cargo = TensorLayout(engine.inputs, (), engine.outputs)
        program = partial(engine.bind, columns={})
        self._ferry = DoubleBufferedExecutor(cuda, cargo, engine.rows, program, self._own)
        if not any(tensor.max_items for tensor in model.manifest.inputs):
            self._ferry.capture({room.name: room.shape for room in engine.inputs}, engine.rows[1])

    def infer(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Fill `outputs` from `inputs`; see `Session.infer`."""
        self._ferry.run(len(next(iter(inputs.values()))), inputs, outputs)

    def close(self) -> None:
        """Free graphs, contexts, the engine, memory, streams."""
        self._own.close()


def parse_device(device: str) -> tuple[int, str]:
    """Return which GPU, and the precision asked for, '' for the model's own."""
    index, precision = 0, ""
    for part in filter(None, device.split(":")):
        if part.isdecimal():
            index = int(part)
        elif part in tensorrt_plans.PRECISIONS:
            precision = part
        else:
            raise ModelError(
                f"backend 'tensorrt' has no device {device!r}",
                "expected N, PRECISION or N:PRECISION, such as 0:fp16",
            )
    return index, precision
