"""Check of the backends: those that work on this machine, and reasons for the others."""

from __future__ import annotations

from importlib.metadata import entry_points

from sluice.pipeline.core.errors import SluiceError
from sluice.pipeline.gpu import nvml
from sluice.pipeline.inference.session import require_backend

from .finding import GPU, Finding, Findings, Status, ok

#: Devices of our own backends; those of other packages are checked without a device.
_DEVICES = {"layers": ("cpu",), "onnxruntime": ("cpu", "cuda", "tensorrt"), "tensorrt": ("",)}


def check_backends() -> Findings:
    """Yield a finding for each backend on each of its devices."""
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
    """Return the indices of the GPUs as text; a single empty text without GPUs."""
    nvml_library = nvml.load()
    if nvml_library is None:
        return [""]
    try:
        return [str(n) for n in range(nvml_library.nvmlDeviceGetCount())] or [""]
    except nvml_library.NVMLError:
        return [""]
    finally:
        nvml_library.nvmlShutdown()
