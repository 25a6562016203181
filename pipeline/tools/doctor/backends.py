"""Backends that can be used on this machine, by device, and why others cannot."""

from __future__ import annotations

from importlib.metadata import entry_points

from sluice.pipeline.core.errors import SluiceError
from sluice.pipeline.gpu import nvml
from sluice.pipeline.inference.session import require_backend

from .finding import GPU, Finding, Findings, Status, ok

#: Devices of our own backends; one of another package is nvml_library without.
_DEVICES = {"layers": ("cpu",), "onnxruntime": ("cpu", "cuda", "tensorrt"), "tensorrt": ("",)}


def check_backends() -> Findings:
    """Yield each backend on each device that it knows."""
    for name in sorted(entry_points(group="sluice.backends").names):
        for device in _DEVICES.get(name, ("",)):
            for number in _numbers(device) if _on_gpu(name, device) else ("",):
                yield _usable(":".join(filter(None, (name, device, number))), name, device)


def _usable(backend: str, name: str, device: str) -> Finding:
    group = GPU if _on_gpu(name, device) else "backends"
    try:
        require_backend(backend, "doctor")
    except SluiceError as error:
        return Finding(
            group,
            backend,
            Status.ERROR,
            error.message.removeprefix(f"backend {backend!r}: "),
            error.hint or "",
        )
    return ok(group, backend, "can be loaded")


def _on_gpu(name: str, device: str) -> bool:
    return device in ("cuda", "tensorrt") or name == "tensorrt"


def _numbers(device: str) -> list[str]:
    """Return the numbers of the GPUs, one without where none is."""
    nvml_library = nvml.load()
    if nvml_library is None:
        return [""]
    try:
        return [str(n) for n in range(nvml_library.nvmlDeviceGetCount())] or [""]
    except nvml_library.NVMLError:
        return [""]
    finally:
        nvml_library.nvmlShutdown()
