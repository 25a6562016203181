"""The backend ``tensorrt``: TensorRT plans, run by the double-buffered executor."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial

from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.core.schema import Array
from sluice.pipeline.gpu.cuda import Cuda
from sluice.pipeline.gpu.double_buffer import DoubleBufferedExecutor, TensorLayout

from . import tensorrt_plans
from .onnx_file import require_any_batch
from .repository import Model
from .tensorrt_engine import TensorRtEngine


class TensorRtSession:
    """A model as a TensorRT plan on a GPU.

    The device is ``N``, ``PRECISION`` or ``N:PRECISION``; by default the first GPU and the
    precision of the model.

    Attributes
    ----------
    tolerance
        Maximum absolute difference from the golden outputs that the precision may cause.
    """

    tolerance = 0.0

    def __init__(self, model: Model, device: str) -> None:
        index, asked = parse_device(device)
        precision = asked or model.manifest.precision
        self.backend = f"tensorrt:{index}:{precision}"
        if precision != model.manifest.precision:
            self.tolerance = tensorrt_plans.TOLERANCE[precision]
        self._resources = ExitStack()
        tensorrt_plans.require_tensorrt()
        require_any_batch(model.path, model.label, self.backend)
        try:
            self._open(model, index, precision)
        except BaseException:
            with suppress(Exception):  # an error of close would hide the first
                self._resources.close()
            raise

    @staticmethod
    def require_available(device: str) -> None:
        """Raise ModelError if TensorRT, the driver or the GPU is missing."""
        index, _ = parse_device(device)
        tensorrt_plans.require_tensorrt()
        Cuda(index)

    def _open(self, model: Model, index: int, precision: str) -> None:
        cuda = Cuda(index)
        cuda.use()
        engine = TensorRtEngine(model, cuda, precision, self._resources)
        layout = TensorLayout(engine.inputs, (), engine.outputs)
        bind = partial(engine.bind, columns={})
        self._executor = DoubleBufferedExecutor(cuda, layout, engine.rows, bind, self._resources)
        if not any(tensor.max_items for tensor in model.manifest.inputs):
            shapes = {tensor.name: tensor.shape for tensor in engine.inputs}
            self._executor.capture(shapes, engine.rows[1])

    def infer(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Fill `outputs` from `inputs`, arrays (N, ...) by tensor name."""
        self._executor.run(len(next(iter(inputs.values()))), inputs, outputs)

    def close(self) -> None:
        """Release graphs, contexts, the engine, memory and streams."""
        self._resources.close()


def parse_device(device: str) -> tuple[int, str]:
    """Return the index of the GPU and the precision; an empty text for that of the model."""
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
