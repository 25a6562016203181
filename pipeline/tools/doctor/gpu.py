"""Driver, GPUs, and the libraries and packages that they are used by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sluice.pipeline.gpu import nvml, shared_libraries

from .finding import GPU, Finding, Findings, Status, ok
from .packages import installed

#: What ONNX Runtime's providers and native engines open, in the order of a reader's questions.
LIBRARIES = (
    "libcuda.so.1", "libnvidia-ml.so.1", "libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13",
    "libcurand.so.10", "libcudnn.so.9", "libnvrtc.so.13", "libnvvm.so.4", "libnvJitLink.so.13",
    "libnvinfer.so.10", "libnvonnxparser.so.10",
)  # fmt: skip
PACKAGES = ("onnxruntime-gpu", "tensorrt-cu13", "cuda-bindings", "numba-cuda", "nvidia-ml-py")
_VERSION = Path("/proc/driver/nvidia/version")
#: CUDA 13 and TensorRT 10.16 know none older.
_LEAST_CAPABILITY = (7, 5)
_EXTRA = "pip install 'sluice-daq[gpu]'"


def check_gpu() -> Findings:
    """Yield what there is of the GPU path."""
    yield _driver()
    yield from _devices()
    for name in LIBRARIES:
        yield _library(name)
    for name in PACKAGES:
        found = installed(name)
        if found is None:
            yield Finding(GPU, name, Status.ERROR, "not installed", _EXTRA)
        else:
            yield ok(GPU, name, found)


def _driver() -> Finding:
    try:
        text = _VERSION.read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        if nvml.driver_is_here():
            return ok(GPU, "driver", "there, without /proc/driver/nvidia")
        return Finding(GPU, "driver", Status.ERROR, "none", shared_libraries.DRIVER.command)
    return ok(GPU, "driver", text.removeprefix("NVRM version:").strip())


def _devices() -> Findings:
    asked = nvml.load()
    if asked is None:
        fix = (
            shared_libraries.DRIVER.command
            if not nvml.driver_is_here()
            else "pip install nvidia-ml-py"
        )
        yield Finding(GPU, "devices", Status.ERROR, "none seen", fix)
        return
    try:
        for index in range(asked.nvmlDeviceGetCount()):
            yield _device(asked, index)
    except asked.NVMLError as error:
        yield Finding(GPU, "devices", Status.ERROR, f"NVML: {error}", "nvidia-smi tells more")
    finally:
        asked.nvmlShutdown()


def _device(asked: Any, index: int) -> Finding:
    handle = asked.nvmlDeviceGetHandleByIndex(index)
    capability = tuple(asked.nvmlDeviceGetCudaComputeCapability(handle))
    memory = asked.nvmlDeviceGetMemoryInfo(handle).total
    text = (
        f"{asked.nvmlDeviceGetName(handle)}, compute capability {capability[0]}.{capability[1]}, "
        f"{memory / 1e9:.0f} GB"
    )
    if capability >= _LEAST_CAPABILITY:
        return ok(GPU, f"gpu {index}", text)
    least = ".".join(map(str, _LEAST_CAPABILITY))
    return Finding(
        GPU, f"gpu {index}", Status.ERROR, text, f"CUDA 13 wants {least} or more: another GPU"
    )


def _library(name: str) -> Finding:
    problem = shared_libraries.load(name)
    if problem is None:
        where = shared_libraries.in_wheels(name)
        return ok(GPU, name, str(where) if where else "on the loader's path")
    text = "not found" if problem.startswith(f"{name}: cannot open shared object") else problem
    return Finding(GPU, name, Status.ERROR, text, shared_libraries.install_hint(name).command)
