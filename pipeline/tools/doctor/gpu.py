"""Check of driver, GPUs, and the libraries and packages that use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sluice.pipeline.gpu import nvml, shared_libraries

from .finding import GPU, Finding, Findings, Status, ok
from .packages import installed

#: Libraries that ONNX Runtime's providers and native engines open, from the driver upwards.
LIBRARIES = (
    "libcuda.so.1", "libnvidia-ml.so.1", "libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13",
    "libcurand.so.10", "libcudnn.so.9", "libnvrtc.so.13", "libnvvm.so.4", "libnvJitLink.so.13",
    "libnvinfer.so.10", "libnvonnxparser.so.10",
)  # fmt: skip
PACKAGES = ("onnxruntime-gpu", "tensorrt-cu13", "cuda-bindings", "numba-cuda", "nvidia-ml-py")
_VERSION = Path("/proc/driver/nvidia/version")
#: Minimum compute capability of CUDA 13 and TensorRT 10.16.
_MIN_CAPABILITY = (7, 5)
_EXTRA = "pip install 'sluice-daq[gpu]'"


def check_gpu() -> Findings:
    """Yield the findings on driver, GPUs, libraries and packages."""
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
    library = nvml.load()
    if library is None:
        fix = (
            shared_libraries.DRIVER.command
            if not nvml.driver_is_here()
            else "pip install nvidia-ml-py"
        )
        yield Finding(GPU, "devices", Status.ERROR, "none seen", fix)
        return
    try:
        for index in range(library.nvmlDeviceGetCount()):
            yield _device(library, index)
    except library.NVMLError as error:
        yield Finding(GPU, "devices", Status.ERROR, f"NVML: {error}", "nvidia-smi tells more")
    finally:
        library.nvmlShutdown()


def _device(library: Any, index: int) -> Finding:
    handle = library.nvmlDeviceGetHandleByIndex(index)
    capability = tuple(library.nvmlDeviceGetCudaComputeCapability(handle))
    memory = library.nvmlDeviceGetMemoryInfo(handle).total
    text = (
        f"{library.nvmlDeviceGetName(handle)}, compute capability {capability[0]}.{capability[1]}, "
        f"{memory / 1e9:.0f} GB"
    )
    if capability >= _MIN_CAPABILITY:
        return ok(GPU, f"gpu {index}", text)
    minimum = ".".join(map(str, _MIN_CAPABILITY))
    return Finding(
        GPU, f"gpu {index}", Status.ERROR, text, f"CUDA 13 needs {minimum} or more: another GPU"
    )


def _library(name: str) -> Finding:
    problem = shared_libraries.load(name)
    if problem is None:
        where = shared_libraries.in_wheels(name)
        return ok(GPU, name, str(where) if where else "on the loader's path")
    text = "not found" if problem.startswith(f"{name}: cannot open shared object") else problem
    return Finding(GPU, name, Status.ERROR, text, shared_libraries.install_hint(name).command)
