"""Conversion of an ONNX graph that is only layers to arrays for `sluice.kernels.layers`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from sluice.kernels.layers import CUT, RELU, SOFTMAX
from sluice.pipeline.inference.manifest import Manifest

Array = NDArray[Any]


@dataclass(frozen=True)
class _Flow:
    """Origin of a value in the graph: its inputs, and the layers it has passed."""

    inputs: tuple[str, ...]
    scale: float = 1.0
    cut: bool = False
    shift: float = 0.0
    logarithm: bool = False
    #: Scales of the inputs after the first; those are logarithms of one plus the input.
    scales: tuple[float, ...] = ()
    layers: tuple[tuple[Array, Array, int], ...] = field(default=(), compare=False)

    def activated(self, activation: int) -> _Flow:
        *before, (weight, bias, done) = self.layers
        return replace(self, layers=(*before, (weight, bias, done | activation)))


class _More(Exception):
    """The graph is more than plain layers."""


def plain_layers(model: onnx.ModelProto, manifest: Manifest) -> dict[str, Array] | None:
    """Return a net as the arrays of a layers file; None if it is more than plain layers.

    Plain are: a first input of any shape, scaled, with fractions cut or not; more inputs of one
    number each, as scaled logarithms of one plus the number; then matrices with biases, each with
    a ReLU, a cut of fractions, or a softmax at the end.

    Parameters
    ----------
    model
        ONNX model that `to_onnx` made.
    manifest
        Names the inputs and the output.
    """
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    flows = {tensor.name: _Flow((tensor.name,)) for tensor in manifest.inputs}
    try:
        for node in model.graph.node:
            flows[node.output[0]] = _STEPS.get(node.op_type, _refuse)(node, flows, known)
        last = flows[manifest.outputs[0].name]
    except (_More, KeyError):
        return None
    if last.inputs != tuple(tensor.name for tensor in manifest.inputs) or not last.layers:
        return None
    arrays: dict[str, Array] = {
        "scale": np.array([last.scale], np.float32),
        "cut": np.array([last.cut]),
        "extra_scales": np.array(last.scales, np.float32),
    }
    for n, (weight, bias, activation) in enumerate(last.layers):
        arrays |= {
            f"weight_{n}": weight,
            f"bias_{n}": bias,
            f"activation_{n}": np.array(activation),
        }
    return arrays


Known = dict[str, Array]
Flows = dict[str, _Flow]
Step = Callable[[onnx.NodeProto, Flows, Known], _Flow]


def _refuse(*_: object) -> _Flow:
    raise _More


def _unactivated(flow: _Flow) -> _Flow:
    if flow.layers:
        raise _More
    return flow


def _number(node: onnx.NodeProto, known: Known) -> float:
    constant = known[node.input[1]]
    if constant.size != 1:
        raise _More
    return float(constant.item())


def _mul(node: onnx.NodeProto, flows: Flows, known: Known) -> _Flow:
    flow = _unactivated(flows[node.input[0]])
    if flow.cut:
        raise _More
    return replace(flow, scale=flow.scale * _number(node, known))


def _add(node: onnx.NodeProto, flows: Flows, known: Known) -> _Flow:
    flow = _unactivated(flows[node.input[0]])
    return replace(flow, shift=_number(node, known))


def _log(node: onnx.NodeProto, flows: Flows, _: Known) -> _Flow:
    flow = _unactivated(flows[node.input[0]])
    if flow != _Flow(flow.inputs, shift=1.0):
        raise _More
    return _Flow(flow.inputs, logarithm=True)


def _concat(node: onnx.NodeProto, flows: Flows, _: Known) -> _Flow:
    first, *others = (_unactivated(flows[name]) for name in node.input)
    if first.logarithm or first.shift or any(not other.logarithm for other in others):
        raise _More
    inputs = tuple(name for flow in (first, *others) for name in flow.inputs)
    return replace(first, inputs=inputs, scales=tuple(other.scale for other in others))


def _cast(node: onnx.NodeProto, flows: Flows, _: Known) -> _Flow:
    flow = flows[node.input[0]]
    if node.attribute[0].i == onnx.TensorProto.FLOAT:
        return flow
    if node.attribute[0].i != onnx.TensorProto.INT32:
        raise _More
    return flow.activated(CUT) if flow.layers else replace(flow, cut=True)


def _gemm(node: onnx.NodeProto, flows: Flows, known: Known) -> _Flow:
    flow = flows[node.input[0]]
    options = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    usual = options.get("alpha", 1.0) == options.get("beta", 1.0) == options.get("transB", 0) == 1
    if not usual or options.get("transA", 0) or flow.shift or flow.logarithm:
        raise _More
    weight, bias = known[node.input[1]], known[node.input[2]]
    return replace(flow, layers=(*flow.layers, (weight, bias, 0)))


def _activation(activation: int) -> Step:
    def step(node: onnx.NodeProto, flows: Flows, _: Known) -> _Flow:
        return flows[node.input[0]].activated(activation)

    return step


_STEPS: dict[str, Step] = {
    "Add": _add,
    "Cast": _cast,
    "Concat": _concat,
    "Gemm": _gemm,
    "Log": _log,
    "Mul": _mul,
    "Relu": _activation(RELU),
    "Reshape": lambda node, flows, _: _unactivated(flows[node.input[0]]),
    "Softmax": _activation(SOFTMAX),
}
