"""From torch to ONNX: one file, any batch size, checked against torch through ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import nn

from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.inference.manifest import Manifest
from sluice.pipeline.inference.repository import write_model

from .layers import plain_layers
from .onnx_runner import runner

Array = NDArray[Any]


@dataclass(frozen=True)
class Export:
    """A trained net to write into the model repository.

    Attributes
    ----------
    module
        The net; its arguments are the manifest's inputs, in order.
    manifest
        Manifest, of which hashes and opset are still to be set.
    golden
        Inputs that every later load of the model must reproduce the outputs of, by name.
    defaults
        Values of further arguments of the net: inputs that may be fed and need not be. They have
        no event axis.
    """

    module: nn.Module
    manifest: Manifest
    golden: dict[str, Array]
    defaults: dict[str, Array] = field(default_factory=dict)

    @property
    def inputs(self) -> list[Array]:
        """The golden inputs in the order of the module's arguments."""
        return [self.golden[tensor.name] for tensor in self.manifest.inputs]


def serialise(export: Export) -> bytes:
    """Return a net as the bytes of an ONNX file.

    Raises
    ------
    ModelError
        If ONNX Runtime and torch differ by more than the manifest's tolerance.
    """
    model = to_onnx(export.module, export.manifest, export.golden, export.defaults)
    data: bytes = model.SerializeToString()
    _check_parity(export, runner(data)(*export.inputs))
    return data


def write(export: Export, data: bytes, metrics: dict[str, float], root: Path) -> Path:
    """Write an exported net into the repository `root`; return the folder of its version."""
    opsets = onnx.load_from_string(data).opset_import
    opset = next(int(entry.version) for entry in opsets if entry.domain == "")
    manifest = replace(export.manifest, opset=opset, metrics=metrics)
    outputs = {manifest.outputs[0].name: runner(data)(*export.inputs)}
    layers = plain_layers(onnx.load_from_string(data), manifest)
    return write_model(root, manifest, data, export.golden, outputs, layers).folder


def to_onnx(
    module: nn.Module, manifest: Manifest, example: dict[str, Array], defaults: dict[str, Array]
) -> onnx.ModelProto:
    """Return a net of one output as an ONNX model with a dynamic batch axis.

    Parameters
    ----------
    module
        The net.
    manifest
        Names the inputs and the output.
    example
        Inputs to trace with, by name; at least two events.
    defaults
        Inputs that need not be fed, by name.
    """
    names = [tensor.name for tensor in manifest.inputs]
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            tuple(map(torch.from_numpy, [*(example[name] for name in names), *defaults.values()])),
            input_names=[*names, *defaults],
            output_names=[tensor.name for tensor in manifest.outputs],
            dynamic_shapes=(*({0: batch} for _ in names), *({} for _ in defaults)),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ModelError(f"model {manifest.name}: torch exported nothing")
    model = program.model_proto
    _strip(model)
    # An input that is an initializer too has that value unless it is fed.
    for name, value in defaults.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    onnx.checker.check_model(model, full_check=True)
    return model


def _check_parity(export: Export, output: Array) -> None:
    with torch.no_grad():
        expected = export.module.eval()(*map(torch.from_numpy, export.inputs)).numpy()
    gap = float(np.abs(expected - output).max())
    if not gap <= export.manifest.tolerance:
        raise ModelError(
            f"model {export.manifest.name}: ONNX Runtime and torch differ by {gap:.3g}, "
            f"expected at most {export.manifest.tolerance:.3g}"
        )


def _strip(model: onnx.ModelProto) -> None:
    # The exporter notes source lines and stack traces, which differ from machine to machine.
    del model.metadata_props[:]
    graph = model.graph
    for group in (
        [graph],
        graph.node,
        graph.initializer,
        graph.input,
        graph.output,
        graph.value_info,
    ):
        for item in group:
            item.doc_string = ""
            del item.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    # The exporter warns of its own use of deprecated interfaces and of packages not needed.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
