"""What NVIDIA's management library says of the GPUs, sampled beside the run by a thread of its own.

Nothing is imported where no NVIDIA driver is. A call that fails takes its value away and is
counted; what a GPU does not have is left out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from msgspec import Struct

#: Any of them is there where the driver is loaded, or where a container was given a GPU.
_DRIVER = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")
_PERIOD_S = 2.0
#: Older samples are not shown: the driver hangs, or the GPU is gone.
_STALE_S = 5 * _PERIOD_S
_JOIN_S = 2.0
#: Why clocks are held down, by their bit's name behind ``nvmlClocksEventReason``.
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
    """What one GPU said; None is what it does not have, or what could not be read.

    Attributes
    ----------
    index, uuid, name
        Which GPU, counted as NVML does.
    busy, memory_busy
        Shares of the last sampling time in which a kernel ran, and in which memory was used.
    memory_used, memory_total
        Bytes.
    power_w, power_limit_w, temperature_c
        Watts and degrees Celsius.
    sm_hz, memory_hz
        Clocks.
    throttled
        Whether clocks are held down, by reason; see `REASONS`.
    corrected, uncorrected
        ECC errors since the driver was loaded.
    errors
        Calls that failed since the sampling began.
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
    """One GPU, asked through NVML's functions.

    Parameters
    ----------
    nvml
        The module ``pynvml``, initialised.
    index
        Which GPU.
    """

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml, self.index, self.errors = nvml, index, 0

    def sample(self) -> Sample:
        """Return what the GPU says now; what fails is left out and counted."""
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
        """Return an answer, None where there is none."""
        try:
            return question()
        except Exception as error:  # whatever it is, it must not end the sampling
            absent = (self._nvml.NVML_ERROR_NOT_SUPPORTED, self._nvml.NVML_ERROR_FUNCTION_NOT_FOUND)
            self.errors += getattr(error, "value", None) not in absent
            return None


class GpuSampler:
    """All GPUs, sampled every other second until closed.

    Parameters
    ----------
    nvml
        The module ``pynvml``, initialised.
    period_s
        Between samples.
    """

    def __init__(self, nvml: Any, period_s: float = _PERIOD_S) -> None:
        self._nvml, self._period_s = nvml, period_s
        self._devices = [GpuProbe(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
        self._done = threading.Event()
        self._latest: tuple[float, list[Sample]] = (0.0, [])
        # The driver may hang for good: the end of the process must not wait for it.
        self._thread = threading.Thread(target=self._watch, name="sluice-nvml", daemon=True)
        self._thread.start()

    def samples(self) -> list[Sample]:
        """Return the latest samples; none where they are old."""
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
    """Whether this machine shows an NVIDIA driver."""
    return any(Path(path).exists() for path in _DRIVER)


def load() -> Any | None:
    """Return ``pynvml``, initialised, or None where there is no driver, package or library."""
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
    """Return the GPUs' names, in NVML's order; none where it cannot be asked."""
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
    """Begin to sample the GPUs; None where there are none, or NVML cannot be asked."""
    nvml = load()
    if nvml is None:
        return None
    try:
        return GpuSampler(nvml)
    except nvml.NVMLError:
        return None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
