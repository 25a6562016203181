"""Our code, held to what TensorRT 10.16 and 11.4 really have, and the stand-in to the same.

The bindings are real; the libraries that they want are empty ones, compiled here. That is enough
to ask a binding for its names, methods and arguments. mypy then checks every use in our code.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]
VERSIONS = ("10", "11")
_BUILD = ROOT / "build" / "tensorrt"
#: What the bindings want of libnvinfer, its plugins and its parser.
_SYMBOLS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry", "getNvOnnxParserVersion", "getPluginRegistry",
    "initLibNvInferPlugins",
)  # fmt: skip
_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")


def _module(name: str) -> Any:
    path = Path(__file__).parent / "contract" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"contract_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _ours() -> list[Path]:
    """Return our files that import TensorRT."""
    found = []
    for file in [*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("exporters/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import) and any(a.name == "tensorrt" for a in node.names):
                found.append(file)
                break
    return found


@pytest.fixture(scope="module", params=VERSIONS)
def described(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what the real binding of a version has."""
    binding = _BUILD / request.param
    if not (binding / "tensorrt_bindings").is_dir():
        pytest.skip(f"{binding} is absent: `make build/tensorrt/fetched` gets it from PyPI")
    if shutil.which("gcc") is None:
        pytest.skip("gcc is absent, which makes the libraries that the binding wants")
    folder = tmp_path_factory.mktemp("libraries")
    (folder / "empty.c").write_text("".join(f"void *{s}(void) {{return 0;}}\n" for s in _SYMBOLS))
    for library in _LIBRARIES:
        name = f"lib{library}.so.{request.param}"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", folder / name,
             folder / "empty.c"],
            check=True, timeout=60,
        )  # fmt: skip
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "contract" / "describe.py"],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(binding)},
        check=True, timeout=60, capture_output=True, text=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["version"].startswith(f"{request.param}.")
    return found


def _complaints(described: dict[str, Any], folder: Path) -> list[str]:
    """Return what mypy says of our use of a binding."""
    stubs = folder / "stubs" / "tensorrt"
    stubs.mkdir(parents=True)
    (stubs / "__init__.pyi").write_text(_module("stubs").stub(described))
    (folder / "mypy.ini").write_text(
        f"[mypy]\nmypy_path = {folder / 'stubs'}\nfollow_imports = skip\n"
        "check_untyped_defs = True\nignore_missing_imports = True\nshow_error_codes = True\n"
        "[mypy-tensorrt.*]\nfollow_imports = silent\nignore_errors = True\n"
    )
    said, errors, _ = api.run(
        ["--config-file", str(folder / "mypy.ini"), "--cache-dir", str(_BUILD / "cache"),
         "--scripts-are-modules", *map(str, _ours())]
    )  # fmt: skip
    assert not errors
    return [line for line in said.splitlines() if ": error:" in line]


def test_our_code_uses_only_what_the_binding_has(described: Any, tmp_path: Path) -> None:
    assert {file.name for file in _ours()} == {"engine.py", "tensorrt.py"}
    assert not "\n".join(_complaints(described, tmp_path))


def test_what_a_binding_lacks_is_found(described: Any, tmp_path: Path) -> None:
    classes = described["classes"]
    broken = json.loads(json.dumps(classes))
    del broken["IExecutionContext"]["members"]["set_tensor_address"]
    del broken["ICudaEngine"]["members"]["num_io_tensors"]
    del broken["ProfilingVerbosity"]["members"]["DETAILED"]
    del broken["LayerInformationFormat"]
    signatures = broken["IBuilderConfig"]["members"]["set_timing_cache"]["method"]
    signatures[0] = signatures[0].replace(", ignore_mismatch: bool", "")
    said = "\n".join(_complaints({**described, "classes": broken}, tmp_path))
    for missing in ('"IExecutionContext" has no attribute "set_tensor_address"',
                    '"ICudaEngine" has no attribute "num_io_tensors"', '"DETAILED"',
                    "LayerInformationFormat",
                    'Too many arguments for "set_timing_cache"'):  # fmt: skip
        assert missing in said


def _public(cls: type) -> Iterator[str]:
    yield from (name for name in dir(cls) if not name.startswith("_"))


def test_the_stand_in_has_nothing_that_the_binding_lacks(described: Any, machine: Any) -> None:
    from sluice_standin import trt

    for name in trt.__all__:
        value = getattr(trt, name)
        if not isinstance(value, type):
            assert list(inspect.signature(value).parameters) == described["functions"][name]
            continue
        members = _inherited(described["classes"], name)
        for member in set(_public(value)) - set(_public(int)) - {"name", "value"}:
            assert member in members, f"{name}.{member}"
            function = inspect.getattr_static(value, member)
            if inspect.isfunction(function):
                _compare(name, member, function, members[member]["method"])


def _inherited(classes: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in classes[name]["bases"]:
        found |= _inherited(classes, base)
    return found | classes[name]["members"]


def _compare(cls: str, member: str, function: Any, signatures: list[str]) -> None:
    """Compare the names of arguments with those of each of the real signatures."""
    split = _module("stubs")._split
    ours = [p for p in inspect.signature(function).parameters if p != "self"]
    theirs = []
    for told in signatures:
        inside = told[told.index("(") + 1 :].rsplit(") -> ", 1)[0]
        theirs.append([argument.partition(":")[0] for argument in list(split(inside))[1:]])
    assert any(ours == names[: len(ours)] for names in theirs), f"{cls}.{member}: {ours}, {theirs}"


def _cudart_uses() -> Iterator[tuple[str, int | None]]:
    """Yield the names of the CUDA runtime that we use, with the number of arguments of calls."""
    tree = ast.parse((ROOT / "pipeline" / "cuda.py").read_text())
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
    real = subprocess.run(
        [sys.executable, "-c", _ASK], check=True, timeout=60, capture_output=True, text=True
    )
    known, kinds = json.loads(real.stdout)
    uses = dict(sorted(_cudart_uses(), key=lambda use: use[1] is not None))
    assert len(uses) > 25
    for name, count in uses.items():
        assert name in known, name
        if count is not None:
            assert known[name] is None or count == known[name], f"{name}: {count}"
    from sluice_standin import cudart

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
print(json.dumps([counts, kinds]))
"""
