"""Count of the multiply-adds of an ONNX model."""

from __future__ import annotations

import math
from pathlib import Path

import onnx

_WEIGHT_LAST = ("Gemm", "MatMul")


def multiply_adds(model: bytes | Path) -> int:
    """Return the multiply-adds of matrices and convolutions for one event.

    Products of weights alone, which do not depend on the event, and single additions are left out.

    Parameters
    ----------
    model
        A serialised model of inputs with an event axis, or its file.
    """
    held = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)
    graph = onnx.shape_inference.infer_shapes(held).graph
    shapes = {one.name: list(one.dims) for one in graph.initializer}
    events = set()
    for value in (*graph.input, *graph.value_info, *graph.output):
        axes = value.type.tensor_type.shape.dim
        shapes[value.name] = [axis.dim_value or 1 for axis in axes]
        if axes and axes[0].dim_param:
            events.add(value.name)
    nodes = (node for node in graph.node if node.output[0] in events)
    return sum(math.prod(shapes[node.output[0]]) * _depth(node, shapes) for node in nodes)


def _depth(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """Return the products that each output of a node is a sum of; 0 if it is none."""
    if node.op_type in _WEIGHT_LAST:
        return shapes[node.input[0]][-1]
    return math.prod(shapes[node.input[1]][1:]) if node.op_type == "Conv" else 0
