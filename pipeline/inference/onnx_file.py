"""What an ONNX file says of itself: versions, tensors, operators, and the files with its weights.

Only these fields of the protocol buffer are read, so that a run needs no package ``onnx``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from sluice.pipeline.core.errors import ModelError

#: Messages inside messages: field number to kind of message, by kind, as in onnx.proto.
_INSIDE = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
}
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
#: Largest signed number; negative ones are read as larger, since all are read unsigned.
_MAX_SIGNED = (1 << 63) - 1
#: Maximum depth of messages inside messages: subgraphs inside the nodes of subgraphs.
_MAX_DEPTH = 64

#: Shape of a tensor, None for an axis of any size; None for any shape.
Shape = tuple[int | None, ...] | None
Value = int | memoryview
Fields = dict[int, list[Value]]


class OnnxFile(Struct, frozen=True, kw_only=True):
    """Contents of an ONNX file.

    Attributes
    ----------
    ir_version
        Version of the file format.
    opsets
        Version of the operators by their domain; the domain of ONNX is ``ai.onnx``.
    operators
        Names of the operators of all nodes, those of subgraphs included.
    external
        Locations of the files with weights outside the ONNX file, relative to its folder.
    inputs, outputs
        Shape of each tensor by name, with None for an axis of any size; None for any shape.
    """

    ir_version: int
    opsets: dict[str, int]
    operators: frozenset[str]
    external: tuple[str, ...]
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]

    @property
    def versions(self) -> str:
        """The versions for messages, such as ``IR version 10, opset ai.onnx 20``."""
        opsets = ", ".join(f"{domain} {number}" for domain, number in self.opsets.items())
        return f"IR version {self.ir_version}, opset {opsets or 'none'}"

    @property
    def fixed_batch(self) -> int:
        """Number of events that each call takes; 0 for any number."""
        return min((shape[0] for shape in self.inputs.values() if shape and shape[0]), default=0)


def read_onnx_file(path: Path, label: str) -> OnnxFile:
    """Read an ONNX file.

    Parameters
    ----------
    path
        The file.
    label
        Name of the model, for error messages.

    Raises
    ------
    ModelError
        If it cannot be read or is not an ONNX file, or a location of weights leads out of its
        folder.
    """
    try:
        data = memoryview(path.read_bytes())
        found = _Contents(data)
    except OSError as error:
        raise ModelError(f"model {label}: {path.name}: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(
            f"model {label}: {path.name}: expected an ONNX file, got something else: {error}"
        ) from error
    for location in found.external:
        require_inside(location, f"model {label}: {path.name}: external data")
    return OnnxFile(
        ir_version=found.ir_version,
        opsets=found.opsets,
        operators=frozenset(found.operators),
        external=tuple(sorted(found.external)),
        inputs=found.inputs,
        outputs=found.outputs,
    )


def require_inside(location: str, where: str) -> None:
    """Raise ModelError if a file's path could lead out of the folder of its model.

    Examples
    --------
    >>> require_inside("model.onnx.data", "here")
    """
    path = Path(location)
    plain = "\\" not in location and "\0" not in location
    if not location or path.is_absolute() or ".." in path.parts or not plain:
        raise ModelError(f"{where}: expected a file in the model's folder, got {location!r}")


def require_any_batch(path: Path, label: str, backend: str) -> None:
    """Raise ModelError if a model takes a fixed number of events, which a backend cannot do."""
    fixed = read_onnx_file(path, label).fixed_batch
    if fixed:
        raise ModelError(
            f"model {label}: backend {backend!r} expects a model that takes any number of events, "
            f"got one that takes {fixed}",
            hint="export it with a batch axis of any size, or use 'onnxruntime:cpu', which runs "
            "such models in blocks",
        )


class _Contents:
    """Collects what `OnnxFile` has from all messages of a file; ValueError if it is none."""

    def __init__(self, data: memoryview) -> None:
        self.opsets: dict[str, int] = {}
        self.operators: set[str] = set()
        self.external: set[str] = set()
        model = _fields(data)
        versions = model.get(1, [])
        if not versions or not isinstance(versions[0], int) or not model.get(7):
            raise ValueError("it has no IR version or no graph")
        self.ir_version = versions[0]
        graph = _fields(_last(model, 7))
        weights = {_text(_fields(tensor), 8) for tensor in graph.get(5, [])}
        self.inputs = {
            name: shape for name, shape in _tensors(graph.get(11, [])) if name not in weights
        }
        self.outputs = dict(_tensors(graph.get(12, [])))
        self._visit("model", data, 0)

    def _visit(self, kind: str, data: Value, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_DEPTH} messages inside each other")
        fields = _fields(data)
        if kind == "node":
            self.operators.add(_text(fields, 4))
        elif kind == "opset":
            version = fields.get(2, [0])[-1]
            self.opsets[_text(fields, 1) or "ai.onnx"] = version if isinstance(version, int) else 0
        elif kind == "external" and _text(fields, 1) == "location":
            self.external.add(_text(fields, 2))
        for number, inner in _INSIDE.get(kind, {}).items():
            for value in fields.get(number, ()):
                self._visit(inner, value, depth + 1)


def _tensors(values: list[Value]) -> Iterator[tuple[str, Shape]]:
    """Yield name and shape of each input or output of a graph."""
    for value in values:
        info = _fields(value)
        tensor = _fields(_last(_fields(_last(info, 2)), 1))
        shape: Shape = None
        if 2 in tensor:
            shape = tuple(_axis_size(axis) for axis in _fields(_last(tensor, 2)).get(1, []))
        yield _text(info, 1), shape


def _axis_size(axis: Value) -> int | None:
    """Return the size of an axis; None for any size: a name, nothing, or a negative number."""
    size = _last(_fields(axis), 1)
    return size if isinstance(size, int) and size <= _MAX_SIGNED else None


def _last(fields: Fields, number: int) -> Value:
    """Return the value of a field; an empty message if it is absent."""
    return fields.get(number, [memoryview(b"")])[-1]


def _text(fields: Fields, number: int) -> str:
    value = _last(fields, number)
    return bytes(value).decode() if isinstance(value, memoryview) else ""


def _fields(data: Value) -> Fields:
    """Return the fields of a message by number: integers, and bytes as views."""
    found: Fields = {}
    if isinstance(data, int):
        raise ValueError("a number stands where a message should be")
    for number, value in _values(data):
        found.setdefault(number, []).append(value)
    return found


def _values(data: memoryview) -> Iterator[tuple[int, Value]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind, field = tag & 7, tag >> 3
        if kind == _VARINT:
            number, at = _varint(data, at)
            yield field, number
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        else:
            size = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind, -1)
        if not 0 <= size <= len(data) - at:
            raise ValueError(f"a field at byte {at} is cut off or of an unknown kind")
        yield field, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return an integer of variable length, and the position behind it."""
    result = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("the file ends inside a number")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
    raise ValueError(f"a number before byte {at} is too long")
