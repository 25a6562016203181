"""Smaller numbers for exported models: int8 with a static calibration, and fp16.

A variant is a model of its own, ``<name>-int8`` or ``<name>-fp16``, with the same tensors, its own
golden outputs, the metrics that it reaches, and what it loses: ``<metric>_loss``.

References
----------
ONNX Runtime, "Quantize ONNX models": QDQ form, symmetric weights by channel.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from msgspec.structs import replace
from numpy.typing import NDArray

from sluice.exporters.evaluation.shipped_models import losses

from .onnx_runner import Runner, runner

if TYPE_CHECKING:
    from .onnx import Export

Array = NDArray[Any]
Metrics = dict[str, float]

#: Greatest difference from the golden outputs: sums of 8-bit products are exact, but an activation
#: between two steps of its 8-bit scale may be rounded to either, as floats before it differ.
TOLERANCE = {"int8": 1e-2, "fp16": 5e-3}
#: Operators that compute in 8 bits. Not those before them, since raw inputs may span orders of
#: magnitude and share one scale; and not pooling, which gains nothing and costs time.
_WEIGHED = ("Conv", "Gemm", "MatMul")
_BATCH = 64


def int8(model: bytes, calibration: Mapping[str, Array]) -> bytes:
    """Return a model whose matrices and convolutions have 8-bit weights and inputs.

    Each is a pair of quantise and dequantise; all other operators stay as they are.

    Parameters
    ----------
    model
        A serialised fp32 model.
    calibration
        Inputs by name, (N, ...): the activations that they cause set the scales.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with _quiet(), tempfile.TemporaryDirectory(prefix="sluice-int8-") as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(_prepared(model))
        quantize_static(
            before, after, _Batches(calibration), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
            op_types_to_quantize=_WEIGHED,
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )  # fmt: skip
        return after.read_bytes()


def fp16(model: bytes) -> bytes:
    """Return a model with 16-bit weights and activations; inputs and outputs stay 32 bits wide."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with _quiet():
        small = convert_float_to_float16(onnx.load_from_string(model), keep_io_types=True)
    data: bytes = small.SerializeToString()
    return data


def write_variants(
    export: Export,
    model: bytes,
    calibration: Mapping[str, Array],
    measure: Callable[[Runner], Metrics],
    root: Path,
) -> list[Path]:
    """Write the int8 and fp16 variants of an exported model; return their folders.

    Parameters
    ----------
    export
        The model they come from.
    model
        The exported model, serialised.
    calibration
        Inputs by name, from which the 8-bit scales are measured.
    measure
        A model to its metrics, on events that no training saw.
    root
        The model repository.
    """
    from .onnx import Export, write

    whole = measure(runner(model))
    folders = []
    for precision, data in (("int8", int8(model, calibration)), ("fp16", fp16(model))):
        found = measure(runner(data))
        manifest = replace(
            export.manifest,
            name=f"{export.manifest.name}-{precision}",
            description=f"{export.manifest.description} {_SAYS[precision]}",
            precision=precision,
            tolerance=TOLERANCE[precision],
            trainings={},
        )
        variant = Export(export.module, manifest, export.golden, export.defaults)
        folders.append(write(variant, data, found | losses(whole, found), root))
    return folders


_SAYS = {
    "int8": "8-bit weights and inputs of matrices and convolutions, calibrated after training.",
    "fp16": "16-bit weights and activations.",
}


class _Batches:
    """Calibration inputs, in the form that ONNX Runtime asks for."""

    def __init__(self, columns: Mapping[str, Array]) -> None:
        events = min(len(column) for column in columns.values())
        self._batches: Iterator[dict[str, Array]] = iter(
            [
                {n: np.ascontiguousarray(c[i : i + _BATCH]) for n, c in columns.items()}
                for i in range(0, events, _BATCH)
            ]
        )

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Do nothing: all batches are one range."""


def _prepared(model: bytes) -> bytes:
    # Infers the shapes of all values and folds batch normalisation into the layer before it.
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="sluice-int8-") as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(model)
        quant_pre_process(before, after, skip_symbolic_shape=True)
        return after.read_bytes()


@contextmanager
def _quiet() -> Iterator[None]:
    # Both tools warn of their own imports and of weights that are small.
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.setLevel(level)
