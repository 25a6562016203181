"""GPU metrics from NVIDIA's management library (NVML), sampled by a thread.

``pynvml`` is imported only on machines with an NVIDIA driver. If a call fails, its value is None
and the error is counted; a quantity that the GPU does not support is None without an error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from msgspec import Struct

#: At least one of these files exists if the driver is loaded, or the container has a GPU.
_DRIVER = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")
#: Time between samples, s.
_PERIOD_S = 2.0
#: Maximum age of a sample, s; an older one means that the driver hangs or the GPU is gone.
_STALE_S = 5 * _PERIOD_S
#: Maximum time to wait for the thread when sampling stops, s.
_JOIN_S = 2.0
#: Reasons for reduced clocks: our name, and the suffix of the constant ``nvmlClocksEventReason…``.
REASONS = {
    "idle": "GpuIdle",
    "applications_clocks": "ApplicationsClocksSetting",
    "sw_power_cap": "SwPowerCap",
    "hw_slowdown": "HwSlowdown",
    "sync_boost": "SyncBoost",
    "sw_thermal": "SwThermalSlowdown",
    "hw_thermal": "HwThermalSlowdown",
    "hw_power_brake": "HwPowerBrakeSlowdown",
    "display_clocks": "DisplayClockSetting",
}


class Sample(Struct, kw_only=True):
    """Metrics of one GPU; None where not supported or not readable.

    Attributes
    ----------
    index, uuid, name
        Index in NVML's order, UUID and product name of the GPU.
    busy, memory_busy
        Fractions of NVML's last sampling period in which a kernel ran, and in which memory was
        read or written.
    memory_used, memory_total
        Memory of the device, bytes.
    power_w, power_limit_w, temperature_c
        Power and its limit, W; temperature, °C.
    sm_hz, memory_hz
        Clock frequencies of the multiprocessors and of the memory, Hz.
    throttled
        Whether the clocks are reduced, by reason; the keys are those of `REASONS`.
    corrected, uncorrected
        Numbers of corrected and uncorrected ECC errors since the driver was loaded.
    errors
        Number of NVML calls that failed since sampling started.
    """

    index: int
    uuid: str = ""
    name: str = ""
    busy: float | None = None
    memory_busy: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None
    sm_hz: float | None = None
    memory_hz: float | None = None
    throttled: dict[str, bool] | None = None
    corrected: int | None = None
    uncorrected: int | None = None
    errors: int = 0


class GpuProbe:
    """Reads the metrics of one GPU.

    Parameters
    ----------
    nvml
        The module ``pynvml``, initialised.
    index
        Index of the GPU in NVML's order.
    """

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml, self.index, self.errors = nvml, index, 0

    def sample(self) -> Sample:
        """Return the current metrics; a value that cannot be read is None."""
        nvml, ask = self._nvml, self._ask
        found = Sample(index=self.index)
        handle = ask(lambda: nvml.nvmlDeviceGetHandleByIndex(self.index))
        if handle is not None:
            self._fill(found, handle)
        found.errors = self.errors
        return found

    def _fill(self, found: Sample, handle: Any) -> None:
        nvml, ask = self._nvml, self._ask
        found.uuid = ask(lambda: nvml.nvmlDeviceGetUUID(handle)) or ""
        found.name = ask(lambda: nvml.nvmlDeviceGetName(handle)) or ""
        rates = ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        if rates is not None:
            found.busy, found.memory_busy = rates.gpu / 100, rates.memory / 100
        memory = ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        if memory is not None:
            found.memory_used, found.memory_total = memory.used, memory.total
        found.power_w = _scaled(ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle)), 1e-3)
        limit = ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        found.power_limit_w = _scaled(limit, 1e-3)
        found.temperature_c = _scaled(
            ask(lambda: nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU)), 1.0
        )
        found.sm_hz = self._clock(handle, nvml.NVML_CLOCK_SM)
        found.memory_hz = self._clock(handle, nvml.NVML_CLOCK_MEM)
        held = ask(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
        if held is not None:
            found.throttled = {
                name: bool(held & getattr(nvml, f"nvmlClocksEventReason{bit}"))
                for name, bit in REASONS.items()
            }
        found.corrected = self._ecc(handle, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED)
        found.uncorrected = self._ecc(handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)

    def _clock(self, handle: Any, kind: int) -> float | None:
        return _scaled(self._ask(lambda: self._nvml.nvmlDeviceGetClockInfo(handle, kind)), 1e6)

    def _ecc(self, handle: Any, kind: int) -> int | None:
        nvml = self._nvml
        count: int | None = self._ask(
            lambda: nvml.nvmlDeviceGetTotalEccErrors(handle, kind, nvml.NVML_VOLATILE_ECC)
        )
        return count

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Return the result of an NVML call, None if it fails."""
        try:
            return question()
        except Exception as error:  # no error may end the sampling thread
            absent = (self._nvml.NVML_ERROR_NOT_SUPPORTED, self._nvml.NVML_ERROR_FUNCTION_NOT_FOUND)
            self.errors += getattr(error, "value", None) not in absent
            return None


class GpuSampler:
    """Samples the metrics of all GPUs in a thread until it is closed.

    Parameters
    ----------
    nvml
        The module ``pynvml``, initialised.
    period_s
        Time between samples, s.
    """

    def __init__(self, nvml: Any, period_s: float = _PERIOD_S) -> None:
        self._nvml, self._period_s = nvml, period_s
        self._devices = [GpuProbe(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
        self._done = threading.Event()
        self._latest: tuple[float, list[Sample]] = (0.0, [])
        # A daemon thread, because a driver that hangs must not keep the process from exiting.
        self._thread = threading.Thread(target=self._watch, name="sluice-nvml", daemon=True)
        self._thread.start()

    def samples(self) -> list[Sample]:
        """Return the latest sample of each GPU; an empty list if they are too old."""
        taken, samples = self._latest
        return samples if time.monotonic() - taken < _STALE_S else []

    def close(self) -> None:
        """Stop sampling."""
        self._done.set()
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():
            self._nvml.nvmlShutdown()

    def _watch(self) -> None:
        while True:
            self._latest = (time.monotonic(), [device.sample() for device in self._devices])
            if self._done.wait(self._period_s):
                return


def driver_is_here() -> bool:
    """Whether an NVIDIA driver is loaded."""
    return any(Path(path).exists() for path in _DRIVER)


def load() -> Any | None:
    """Return the initialised module ``pynvml``; None without driver, package or library."""
    if not driver_is_here():
        return None
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def gpu_names() -> list[str]:
    """Return the product names of the GPUs, in NVML's order; an empty list without NVML."""
    nvml = load()
    if nvml is None:
        return []
    try:
        handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
        return [nvml.nvmlDeviceGetName(handle) for handle in handles]
    except nvml.NVMLError:
        return []
    finally:
        nvml.nvmlShutdown()


def start_sampler() -> GpuSampler | None:
    """Start to sample the GPUs; return None if NVML is not available."""
    nvml = load()
    if nvml is None:
        return None
    try:
        return GpuSampler(nvml)
    except nvml.NVMLError:
        return None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
