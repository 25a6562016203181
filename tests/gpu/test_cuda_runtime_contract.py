"""Our calls of the CUDA runtime, and the stand-in's, held to what `cuda.bindings` really has."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def _cudart_uses() -> Iterator[tuple[str, int | None]]:
    """Yield the names of the CUDA runtime that we use, with the number of arguments of calls."""
    tree = ast.parse((ROOT / "pipeline" / "gpu" / "cuda.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("cuda"):
            yield node.attr, None
        if isinstance(node, ast.Call):
            given = [node.func, *node.args]
            at = next((n for n, a in enumerate(given) if _called(a)), None)
            if at is not None:
                yield given[at].attr, len(given) - at - 1  # type: ignore[attr-defined]


def _called(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr.startswith("cuda") and node.attr != "cuda"


def test_our_calls_are_those_of_the_cuda_runtime(machine: Any) -> None:
    found = importlib.util.find_spec("cuda.bindings")
    assert found is not None
    done = subprocess.run(
        [sys.executable, "-c", _ASK], check=True, timeout=60, capture_output=True, text=True
    )
    known, kinds, properties = json.loads(done.stdout)
    uses = dict(sorted(_cudart_uses(), key=lambda use: use[1] is not None))
    assert len(uses) > 25
    assert known["cudaMemcpyAsync"] == 5, "arguments are counted"
    for name, count in uses.items():
        assert name in known, name
        if count is not None:
            assert known[name] is None or count == known[name], f"{name}: {count}"
    from sluice_standin import cudart

    assert {field.name for field in fields(cudart.cudaDeviceProp)} <= set(properties)
    for name in (name for name in vars(cudart) if name.startswith("cuda")):
        assert name in known, name
        value = getattr(cudart, name)
        if inspect.isfunction(value) and known[name] is not None:
            assert len(inspect.signature(value).parameters) == known[name], name
        if name in kinds:
            assert {m.name for m in value} <= set(kinds[name]), name


#: Prints each name of the real runtime with its number of arguments, and its enumerations.
_ASK = """
import inspect, json
from cuda.bindings import runtime
names = {n: getattr(runtime, n) for n in dir(runtime) if n.startswith("cuda")}
counts = {n: len(inspect.signature(v).parameters) if inspect.isroutine(v) or hasattr(v, "__code__")
          else None for n, v in names.items()}
counts |= {m: None for n, v in names.items() if isinstance(v, type) and hasattr(v, "__members__")
           for m in v.__members__}
kinds = {n: list(v.__members__) for n, v in names.items() if hasattr(v, "__members__")}
print(json.dumps([counts, kinds, dir(runtime.cudaDeviceProp)]))
"""
