"""Signature of an ONNX file: its tensors as columns of a batch, as far as they can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from msgspec import Struct

from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.core.schema import Array

from .manifest import Tensor
from .onnx_file import OnnxFile, Shape, read_onnx_file
from .onnxruntime import cpu_options
from .onnxruntime_providers import TYPES, describe_type, load_error


class Signature(Struct, frozen=True, kw_only=True):
    """What an ONNX file takes and gives.

    Attributes
    ----------
    file
        Versions, shapes and operators of the file.
    inputs
        Inputs with the shape of one event's item; None for an axis of any size.
    outputs
        Names of the outputs that are numbers.
    notes
        Sentences on outputs that are left out.
    """

    file: OnnxFile
    inputs: dict[str, tuple[str, Shape]]
    outputs: tuple[str, ...]
    notes: tuple[str, ...]


class ExportedModel:
    """An ONNX file that is in no repository yet, loaded by ONNX Runtime on the CPU.

    Parameters
    ----------
    path
        The file; weights outside it lie beside it.

    Attributes
    ----------
    signature
        Its inputs and outputs.

    Raises
    ------
    ModelError
        If ONNX Runtime cannot load it, or an input or all outputs are no numbers of events.
    """

    def __init__(self, path: Path) -> None:
        self._where = f"model {path}"
        file = read_onnx_file(path, str(path))
        try:
            self._session: Any = ort.InferenceSession(
                str(path), cpu_options(), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no base class
            raise load_error(file, str(path), error) from error
        inputs = {node.name: self._input(node, file) for node in self._session.get_inputs()}
        wrong = {
            node.name: describe_type(node.type)
            for node in self._session.get_outputs() if node.type not in TYPES
        }  # fmt: skip
        outputs = [node.name for node in self._session.get_outputs() if node.name not in wrong]
        left_out = tuple(f"output {name!r} is {text}" for name, text in wrong.items())
        if not outputs or not inputs:
            raise ModelError(
                f"{self._where}: expected inputs and outputs that are numbers, got none",
                hint="\n  ".join(left_out) or None,
            )
        self.signature = Signature(file=file, inputs=inputs, outputs=tuple(outputs), notes=left_out)

    def _input(self, node: Any, file: OnnxFile) -> tuple[str, Shape]:
        """Return dtype and item shape of an input."""
        where = f"{self._where}: input {node.name!r}"
        if node.type not in TYPES:
            raise ModelError(f"{where} is {describe_type(node.type)}")
        shape = file.inputs.get(node.name)
        if not shape:
            raise ModelError(f"{where}: expected an axis of events, the file has none")
        return TYPES[node.type], shape[1:]

    def outputs_of(self, inputs: dict[str, Array]) -> tuple[dict[str, Array], tuple[Tensor, ...]]:
        """Return the outputs of some events, and the tensors that they are.

        Raises
        ------
        ModelError
            If ONNX Runtime cannot run the model on them, or no output has an entry for each event.
        """
        events = len(next(iter(inputs.values())))
        block = self.signature.file.fixed_batch or events
        names = list(self.signature.outputs)
        parts = []
        for start in range(0, events, block):
            rows = np.minimum(np.arange(start, start + block), events - 1)
            try:
                parts.append(self._session.run(names, {n: a[rows] for n, a in inputs.items()}))
            except Exception as error:  # its exceptions share no base class
                raise ModelError(
                    f"{self._where}: ONNX Runtime cannot run it on {block} events: {error}",
                    hint="are the values valid? give some events of yours: `--data FILE`",
                ) from error
        for name, array in zip(names, parts[0], strict=True):
            if array.shape[:1] != (block,):
                raise ModelError(
                    f"{self._where}: output {name!r}: expected an entry for each of {block} "
                    f"events, got an array of shape {list(array.shape)}",
                    hint="export the model with a batch axis of any size",
                )
        arrays = {
            name: np.concatenate([part[index] for part in parts])[:events]
            for index, name in enumerate(names)
        }
        tensors = (Tensor(name, str(a.dtype), a.shape[1:]) for name, a in arrays.items())
        return arrays, tuple(tensors)
