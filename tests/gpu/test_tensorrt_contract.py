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
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]
VERSIONS = ("10", "11")
Ask = Callable[..., str]
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


def _skipped_without_binding(version: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not (_BUILD / version / "tensorrt_bindings").is_dir(),
        reason=f"{_BUILD / version} is absent: `make build/tensorrt/fetched` gets it",
    )


@pytest.fixture(
    scope="module", params=[pytest.param(v, marks=_skipped_without_binding(v)) for v in VERSIONS]
)
def version(request: pytest.FixtureRequest) -> str:
    """Return a version of the bindings that is there."""
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def real(version: str, tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Return what runs a program beside a real binding, and returns what it prints."""
    folder = tmp_path_factory.mktemp("libraries")
    (folder / "empty.c").write_text("".join(f"void *{s}(void) {{return 0;}}\n" for s in _SYMBOLS))
    for library in _LIBRARIES:
        name = f"lib{library}.so.{version}"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", folder / name,
             folder / "empty.c"],
            check=True, timeout=60,
        )  # fmt: skip
    paths = {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(_BUILD / version)}

    def ask(*program: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, *program], env={**os.environ, **paths}, timeout=60,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return ask


@pytest.fixture(scope="module")
def described(real: Ask, version: str) -> Any:
    """Return what the real binding of a version has."""
    found = json.loads(real(Path(__file__).parent / "contract" / "describe.py"))
    assert found["version"].startswith(f"{version}.")
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
    assert {file.name for file in _ours()} == {"tensorrt.py", "tensorrt_engine.py"}
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


def test_the_binding_takes_our_classes_and_gives_what_we_expect(real: Ask, version: str) -> None:
    """What no stub tells: subclasses, conversions, the values of flags."""
    result = json.loads(real("-c", _TRY))
    assert result["errors"] == ["an error"]
    assert result["goes on"] is True
    assert result["shape"] == [[1, 2, 3], 1]
    kinds = {"FLOAT": "float32", "HALF": "float16"} | {
        kind: kind.lower() for kind in ("INT8", "INT32", "INT64", "BOOL", "UINT8")
    }
    assert result["types"] == kinds
    assert result["strongly typed"] == {"10": 2, "11": 1}[version]


_TRY = """
import json, sys
import tensorrt_bindings as trt
sys.modules["tensorrt"] = trt
from rich.progress import Progress
from sluice.exporters.conversion import tensorrt as ours
log = ours._Log()
log.log(trt.ILogger.Severity.ERROR, "an error")
log.log(trt.ILogger.Severity.WARNING, "a warning")
with Progress(disable=True) as bars:
    monitor = ours._Monitor(bars)
    monitor.phase_start("a", None, 2)
    on = monitor.step_complete("a", 0)
    monitor.phase_finish("a")
kinds = ("FLOAT", "HALF", "INT8", "INT32", "INT64", "BOOL", "UINT8")
print(json.dumps({
    "errors": log.errors,
    "goes on": on,
    "shape": [list(tuple(trt.Dims((1, 2, 3)))), trt.Dims((1, 2))[0]],
    "types": {kind: trt.nptype(getattr(trt.DataType, kind)).__name__ for kind in kinds},
    "strongly typed": 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
}))
"""


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
    for signature in signatures:
        inside = signature[signature.index("(") + 1 :].rsplit(") -> ", 1)[0]
        theirs.append([argument.partition(":")[0] for argument in list(split(inside))[1:]])
    assert any(ours == names[: len(ours)] for names in theirs), f"{cls}.{member}: {ours}, {theirs}"
