"""What a binding has, written as a stub file, so that mypy holds our code to it."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from typing import Any

_HEADER = """\
import collections.abc
import typing
import typing_extensions
from typing import Any, ClassVar, overload
"""
#: How a type is written, and what it is; pybind11 converts a sequence to `Dims`.
_TYPES = [
    (r"tensorrt_bindings\.tensorrt\.", ""),
    (r"typing\.SupportsInt", "int"),
    (r"typing\.SupportsFloat", "float"),
    (r"[\w.]*CapsuleType|numpy\.[\w.]+(\[[^\]]*\])?|[\w:<>]*::[\w:<> ]+", "Any"),
]


def stub(described: dict[str, Any]) -> str:
    """Return the text of ``tensorrt/__init__.pyi``."""
    lines = [_HEADER, "__version__: str"]
    for name, parameters in described["functions"].items():
        lines.append(f"def {name}({', '.join(f'{p}: Any = ...' for p in parameters)}) -> Any: ...")
    for name, about in described["classes"].items():
        lines += _class(name, about)
    return "\n".join(lines) + "\n"


def _class(name: str, about: dict[str, Any]) -> Iterator[str]:
    yield f"class {name}({', '.join(about['bases'])}):"
    yield "    ..."
    if name == "IHostMemory":  # pybind11 does not tell of the buffer that it gives
        yield "    def __buffer__(self, flags: int, /) -> memoryview: ..."
    members = about["members"]
    if {"__len__", "__getitem__"} <= members.keys() and "__iter__" not in members:
        yield "    def __iter__(self) -> collections.abc.Iterator[int]: ..."
    for member, found in members.items():
        yield from (f"    {line}" for line in _member(member, found))


def _member(name: str, found: dict[str, Any]) -> Iterator[str]:
    if "class" in found:
        yield from _class(name, found["class"])
    elif "value" in found:
        yield f"{name}: ClassVar[{found['value']}]"
    elif "property" in found:
        kind = _type(found["property"])
        yield "@property"
        yield f"def {name}(self) -> {kind}: ..."
        if found["settable"]:
            yield f"@{name}.setter"
            yield f"def {name}(self, value: {kind}) -> None: ..."
    else:
        signatures = list(filter(None, map(_signature, found["method"])))
        for signature in signatures:
            if len(signatures) > 1:
                yield "@overload"
            yield f"def {name}{signature}: ..."


def _signature(described: str) -> str:
    """Return a signature as Python has it, '' for one of unnamed arguments only."""
    inside, result = described[described.index("(") + 1 :].rsplit(") -> ", 1)
    if inside.startswith("*args"):
        return ""
    arguments = []
    optional = True  # a default before an argument without one is none
    for argument in reversed(list(_split(inside))[1:]):
        name, typed, rest = argument.partition(": ")
        kind, equals, _ = rest.partition(" = ")
        optional = optional and bool(equals)
        arguments.append(_argument(name, kind, optional) if typed else name)
    return f"({', '.join(['self', *reversed(arguments)])}) -> {_type(result)}"


def _argument(name: str, kind: str, optional: bool) -> str:
    annotation = _type(kind)
    if annotation == "Dims":
        annotation = f"{annotation} | collections.abc.Sequence[int]"
    return f"{name}{'_' * keyword.iskeyword(name)}: {annotation}{' = ...' * optional}"


def _split(arguments: str) -> Iterator[str]:
    """Yield the arguments, which commas part that stand in no bracket."""
    depth, start = 0, 0
    for at, letter in enumerate(arguments):
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and depth == 0:
            yield arguments[start:at].strip()
            start = at + 1
    if arguments[start:].strip():
        yield arguments[start:].strip()


def _type(annotation: str) -> str:
    for pattern, kind in _TYPES:
        annotation = re.sub(pattern, kind, annotation)
    return annotation
