"""The real onnxruntime-gpu without CUDA's libraries: refused, and each option is one of its own.

Its wheel has 255 MB: `make gpu-runtime` fetches it, and where nobody did, this is skipped.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sluice.pipeline.gpu.shared_libraries import load
from sluice.pipeline.inference.onnxruntime_providers import cuda_options, tensorrt_options
from sluice.pipeline.inference.repository import find_model

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "build" / "onnxruntime-gpu"
CAPI = RUNTIME / "onnxruntime" / "capi"

pytestmark = pytest.mark.skipif(
    not CAPI.is_dir(), reason="onnxruntime-gpu is not in build/: make gpu-runtime fetches it"
)
without_driver = pytest.mark.skipif(load("libcuda.so.1") is None, reason="a driver is here")


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, "PYTHONPATH": str(RUNTIME)}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip


@without_driver
@pytest.mark.parametrize("kind", ["cuda", "tensorrt"])
def test_a_run_is_refused_with_what_is_missing(kind: str, tmp_path: Path) -> None:
    sluice = str(Path(sys.executable).parent / "sluice")
    done = run(sluice, "run", "hgcal", "--backend", f"onnxruntime:{kind}", cwd=tmp_path)
    assert done.returncode == 4, done
    assert "missing" in done.stderr
    assert "libcuda.so.1" in done.stderr
    assert "nvidia-driver" in done.stderr
    assert "Traceback" not in done.stderr


@without_driver
@pytest.mark.parametrize("kind", ["cuda", "tensorrt"])
def test_nothing_ends_up_on_the_cpu_even_if_nobody_looked_before(kind: str, tmp_path: Path) -> None:
    code = f"""
from sluice.pipeline.inference.session import onnxruntime_gpu as gpu
from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.inference.repository import find_model

class Nothing:
    address = 0
    def gpu(self):
        return gpu.Gpu("none", "9.0", "13.0")

session = gpu.OnnxRuntimeGpuSession.__new__(gpu.OnnxRuntimeGpuSession)
session.backend, session._number, session._captured = "onnxruntime:{kind}", 0, False
session._stream = session._cuda = Nothing()
try:
    session._load(find_model("wafer-tagger"), {kind!r})
except ModelError as error:
    print("refused:", error)
"""
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused: "), done
    assert "Falling back" not in done.stdout


@pytest.mark.parametrize("kind", ["cuda", "tensorrt"])
def test_every_option_is_one_of_the_provider_s(kind: str, tmp_path: Path) -> None:
    options = cuda_options(0, 1, captured=True)
    if kind == "tensorrt":
        options = tensorrt_options(find_model("wafer-tagger"), 0, 1, tmp_path / "cache")
    known = (CAPI / f"libonnxruntime_providers_{kind}.so").read_bytes()
    assert [name for name in options if name.encode() + b"\0" not in known] == []


def test_settings_of_runs_and_sessions_are_the_runtime_s() -> None:
    source = (ROOT / "pipeline" / "backends" / "onnxruntime_gpu.py").read_text()
    names = re.findall(r'_config_entry\(\s*"([\w.]+)"', source)
    assert len(names) == 3
    (library,) = CAPI.glob("libonnxruntime.so.*")
    known = library.read_bytes()
    assert [name for name in names if name.encode() not in known] == []
