"""What GPUs say is shown; what they lack is left out; what fails is counted and breaks nothing."""

from __future__ import annotations

import ast
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from sluice.pipeline.gpu import nvml
from sluice.pipeline.service.prometheus_gpu import GpuCollector


class NVMLError(Exception):
    def __init__(self, value):
        self.value = value


class FakeNvml:
    """NVML's functions that we use, on two GPUs; `failing` maps a function to an error code."""

    NVMLError = NVMLError
    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_FUNCTION_NOT_FOUND = 3, 13
    NVML_ERROR_GPU_IS_LOST = 15
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVML_MEMORY_ERROR_TYPE_CORRECTED, NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 0, 1
    NVML_VOLATILE_ECC = 0
    nvmlClocksEventReasonGpuIdle = 0x1
    nvmlClocksEventReasonApplicationsClocksSetting = 0x2
    nvmlClocksEventReasonSwPowerCap = 0x4
    nvmlClocksEventReasonHwSlowdown = 0x8
    nvmlClocksEventReasonSyncBoost = 0x10
    nvmlClocksEventReasonSwThermalSlowdown = 0x20
    nvmlClocksEventReasonHwThermalSlowdown = 0x40
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 0x80
    nvmlClocksEventReasonDisplayClockSetting = 0x100

    def __init__(self):
        self.failing, self.closed = {}, False

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name.startswith("nvml") and callable(found) and name in self.failing:
            failure = self.failing[name]

            def fail(*_):
                raise failure if isinstance(failure, Exception) else NVMLError(failure)

            return fail
        return found

    def nvmlInit(self):
        pass

    def nvmlShutdown(self):
        self.closed = True

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetUUID(self, handle):
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, handle):
        return "NVIDIA Fake"

    def nvmlDeviceGetUtilizationRates(self, handle):
        return SimpleNamespace(gpu=87, memory=41)

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(used=3 << 30, total=80 << 30, free=77 << 30)

    def nvmlDeviceGetPowerUsage(self, handle):
        return 312_500

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return 700_000

    def nvmlDeviceGetTemperatureV(self, handle, sensor):
        return 61

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: 2619}[kind]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return 0x44 if handle else 0x1

    def nvmlDeviceGetTotalEccErrors(self, handle, kind, counter):
        assert counter == self.NVML_VOLATILE_ECC
        return 5 + kind


def shown(samples):
    registry = CollectorRegistry()
    registry.register(GpuCollector(lambda: samples))
    lines = generate_latest(registry).decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in lines if not line.startswith("#")}  # fmt: skip


@pytest.fixture
def fake():
    return FakeNvml()


def sample(fake, index=1):
    return nvml.GpuProbe(fake, index).sample()


def test_values_in_their_units(fake):
    got = shown([sample(fake, 0), sample(fake, 1)])
    assert got['sluice_gpu_info{gpu="1",name="NVIDIA Fake",uuid="GPU-1"}'] == 1
    assert got['sluice_gpu_utilisation_ratio{gpu="0"}'] == 0.87
    assert got['sluice_gpu_memory_used_bytes{gpu="1"}'] == 3 << 30
    assert got['sluice_gpu_power_watts{gpu="1"}'] == pytest.approx(312.5)
    assert got['sluice_gpu_power_limit_watts{gpu="1"}'] == pytest.approx(700)
    assert got['sluice_gpu_temperature_celsius{gpu="1"}'] == 61
    assert got['sluice_gpu_clock_hertz{clock="sm",gpu="1"}'] == 1.98e9
    assert got['sluice_gpu_throttled{gpu="0",reason="idle"}'] == 1
    held = {key for key, value in got.items() if "throttled" in key and 'gpu="1"' in key and value}
    assert {key.split('reason="')[1].rstrip('"}') for key in held} == {"sw_power_cap", "hw_thermal"}
    assert got['sluice_gpu_ecc_errors_total{gpu="1",kind="corrected"}'] == 5
    assert got['sluice_gpu_ecc_errors_total{gpu="1",kind="uncorrected"}'] == 6
    assert got['sluice_gpu_sample_errors_total{gpu="1"}'] == 0


@pytest.mark.parametrize("code", [3, 13])
def test_what_a_gpu_lacks_is_left_out_uncounted(fake, code):
    fake.failing = {"nvmlDeviceGetTotalEccErrors": code, "nvmlDeviceGetPowerUsage": code}
    got = shown([sample(fake)])
    assert not any("ecc" in key or "power_watts" in key for key in got)
    assert got['sluice_gpu_sample_errors_total{gpu="1"}'] == 0
    assert 'sluice_gpu_utilisation_ratio{gpu="1"}' in got


@pytest.mark.parametrize(
    "failure", [15, OSError("gone"), UnicodeDecodeError("utf-8", b"", 0, 1, "")]
)
def test_a_failure_is_counted_and_the_rest_stays(fake, failure):
    fake.failing = {"nvmlDeviceGetUtilizationRates": failure}
    device = nvml.GpuProbe(fake, 1)
    assert [device.sample().errors for _ in range(3)] == [1, 2, 3]
    got = shown([device.sample()])
    assert 'sluice_gpu_utilisation_ratio{gpu="1"}' not in got
    assert 'sluice_gpu_power_watts{gpu="1"}' in got


def test_a_gpu_that_falls_off_the_bus(fake):
    fake.failing = {"nvmlDeviceGetHandleByIndex": 15}
    got = shown([sample(fake)])
    assert set(got) == {
        'sluice_gpu_info{gpu="1",name="",uuid=""}', 'sluice_gpu_sample_errors_total{gpu="1"}'
    }  # fmt: skip


def test_sampling_goes_on_beside_and_ends(fake):
    gpus = nvml.GpuSampler(fake, period_s=0.005)
    deadline = time.monotonic() + 10
    while not gpus.samples() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert [found.index for found in gpus.samples()] == [0, 1]
    fake.failing = {"nvmlDeviceGetName": 15}
    while not gpus.samples()[0].errors and time.monotonic() < deadline:
        time.sleep(0.002)
    assert gpus.samples()[0].errors > 0
    gpus.close()
    assert fake.closed
    assert "sluice-nvml" not in [thread.name for thread in threading.enumerate()]


def test_a_driver_that_hangs_shows_nothing(fake, monkeypatch):
    gpus = nvml.GpuSampler(fake, period_s=60)
    deadline = time.monotonic() + 10
    while not gpus.samples() and time.monotonic() < deadline:
        time.sleep(0.002)
    taken, samples = gpus._latest
    gpus._latest = (taken - nvml._STALE_S, samples)
    assert gpus.samples() == []
    gpus.close()


def test_without_a_driver_nothing_is_imported(monkeypatch):
    monkeypatch.setattr(nvml, "_DRIVER", ("/no/such/file",))
    monkeypatch.setattr(nvml, "import_module", lambda name: pytest.fail(f"{name} imported"))
    assert nvml.start_sampler() is None
    assert nvml.gpu_names() == []


@pytest.mark.parametrize("way", ["no package", "no library", "no device"])
def test_a_driver_without_its_library_or_package(monkeypatch, fake, way):
    monkeypatch.setattr(nvml, "_DRIVER", ("/",))

    def load(name):
        if way == "no package":
            raise ImportError(name)
        return fake

    fake.failing = {"no library": {"nvmlInit": 12}, "no device": {"nvmlDeviceGetCount": 15}}.get(
        way, {}
    )
    monkeypatch.setattr(nvml, "import_module", load)
    assert nvml.start_sampler() is None
    assert nvml.gpu_names() == []


def test_names_for_the_begin_of_run_record(monkeypatch, fake):
    monkeypatch.setattr(nvml, "load", lambda: fake)
    assert nvml.gpu_names() == ["NVIDIA Fake"] * 2
    assert fake.closed
    fake.failing = {"nvmlDeviceGetName": FakeNvml.NVML_ERROR_GPU_IS_LOST}
    assert nvml.gpu_names() == []


@pytest.mark.modules("pynvml")
def test_every_name_is_one_of_the_real_package():
    import pynvml

    text = Path(nvml.__file__).read_text()
    names = (node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute))
    used = {name for name in names if name.startswith(("nvml", "NVML"))}
    used |= {f"nvmlClocksEventReason{bit}" for bit in nvml.REASONS.values()}
    assert len(used) > 25
    assert [name for name in sorted(used) if not hasattr(pynvml, name)] == []
    ours = [name for name in dir(FakeNvml) if name.startswith(("nvml", "NVML"))]
    assert [name for name in ours if not hasattr(pynvml, name)] == []
    for name in ours:
        if isinstance(getattr(FakeNvml, name), int):
            assert getattr(FakeNvml, name) == getattr(pynvml, name), name
