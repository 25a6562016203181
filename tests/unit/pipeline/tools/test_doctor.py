"""The doctor sees what is there and what is not, and says what to do."""

from __future__ import annotations

import json
import resource
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from sluice.pipeline.cli.main import app
from sluice.pipeline.gpu import nvml, shared_libraries
from sluice.pipeline.tools.doctor import backends, gpu, machine, packages
from sluice.pipeline.tools.doctor import report as doctor
from sluice.pipeline.tools.doctor.finding import GPU, Status


def found(look, name):
    (one,) = (finding for finding in look() if finding.name == name)
    return one


def asks(finding, status, *words):
    assert finding.status is status, finding
    for word in words:
        assert word in f"{finding.found} {finding.fix}", finding


def test_this_machine(monkeypatch):
    monkeypatch.setattr(nvml, "_DRIVER", ("/no/such/file",))
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["cpu_fit"] is True
    names = {finding["name"] for finding in report["findings"]}
    assert {"cores", "shared memory", "open files", "state folder", "compiled kernels", "numpy",
            "pyarrow", "onnxruntime", "layers:cpu", "onnxruntime:cpu", "driver", "libcudnn.so.9",
            "libnvinfer.so.10", "nvidia-ml-py", "onnxruntime:cuda"} <= names  # fmt: skip
    for finding in report["findings"]:
        assert (finding["status"] == "fine") == (finding["fix"] == ""), finding


def test_a_gpu_that_is_missing_is_an_error_only_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(gpu, "_VERSION", gpu.Path("/no/such/file"))
    monkeypatch.setattr(nvml, "_DRIVER", ("/no/such/file",))
    plain = CliRunner().invoke(app, ["doctor"])
    assert plain.exit_code == 0, plain.output
    assert "on the CPU: runs work here" in plain.stdout
    assert "on the GPU: something is missing" in plain.stdout
    assert "nvidia-driver" in plain.stdout
    assert CliRunner().invoke(app, ["doctor", "--gpu"]).exit_code == 8


def test_both_runtimes_are_an_error(monkeypatch):
    versions = {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}
    monkeypatch.setattr(packages, "installed", lambda name: versions.get(name, "1"))
    asks(
        found(packages.check_packages, "onnxruntime"),
        Status.ERROR,
        "own the same files",
        "uninstall",
    )
    assert CliRunner().invoke(app, ["doctor", "--json"]).exit_code == 8


def test_no_runtime_and_a_missing_package(monkeypatch):
    monkeypatch.setattr(packages, "installed", lambda name: None)
    asks(found(packages.check_packages, "onnxruntime"), Status.ERROR, "sluice-daq[cpu]")
    asks(
        found(packages.check_packages, "pyzmq"), Status.ERROR, "not installed", "pip install pyzmq"
    )


@pytest.mark.parametrize("variable", ["SLUICE_STATE", "NUMBA_CACHE_DIR"])
def test_folders_that_cannot_be_written(monkeypatch, tmp_path, variable):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv(variable, str(blocked))
    name = {"SLUICE_STATE": "state folder", "NUMBA_CACHE_DIR": "compiled kernels"}[variable]
    asks(found(machine.check_machine, name), Status.ERROR, variable)


def test_small_limits_are_warned_of(monkeypatch):
    small = SimpleNamespace(total=64 << 20, free=60 << 20)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: small)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(machine, "_read", lambda _: "MemAvailable: 1000 kB\n")
    for name, word in (
        ("shared memory", "--shm-size"), ("open files", "LimitNOFILE"), ("cores", "inline"),
        ("memory", "0.4 GB"), ("disk", "--out"),
    ):  # fmt: skip
        asks(found(machine.check_machine, name), Status.WARNING, word)
    assert doctor.DoctorReport(tuple(machine.check_machine())).cpu_fit


def test_no_shared_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_SHM", tmp_path / "shm")
    monkeypatch.setattr(machine, "runtime_path", lambda: tmp_path / "sluice-0")
    monkeypatch.delenv("SLUICE_RUNTIME")
    text = f"batches lie in {tmp_path} instead"
    asks(found(machine.check_machine, "shared memory"), Status.WARNING, text, "tmpfs")
    assert not (tmp_path / "sluice-0").exists()


def test_shared_memory_is_measured_where_runs_have_it(monkeypatch, tmp_path):
    sizes = {tmp_path: 1 << 20, Path("/dev/shm"): 1 << 40}  # noqa: S108
    monkeypatch.setattr(
        machine.shutil, "disk_usage",
        lambda path: SimpleNamespace(total=1 << 40, free=sizes.get(path, 1 << 40)),
    )  # fmt: skip
    monkeypatch.setenv("SLUICE_RUNTIME", str(tmp_path / "made" / "later"))
    finding = found(machine.check_machine, "shared memory")
    asks(finding, Status.WARNING, f"in {tmp_path}", "SLUICE_RUNTIME")
    assert not (tmp_path / "made").exists()


def test_a_port_that_is_taken(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(machine, "_PORTS", {port: "http.listen"})
        asks(found(machine.check_machine, f"port {port}"), Status.WARNING, "taken", "http.listen")
    asks(found(machine.check_machine, f"port {port}"), Status.FINE, "free")


@pytest.mark.parametrize(("offset", "status"), [(0, Status.WARNING), (37, Status.FINE)])
def test_international_atomic_time(monkeypatch, offset, status):
    clocks = {time.CLOCK_TAI: 1000.0 + offset, time.CLOCK_REALTIME: 1000.0}
    monkeypatch.setattr(machine.time, "clock_gettime", clocks.__getitem__)
    asks(found(machine.check_machine, "CLOCK_TAI"), status, f"{offset} s")


class TwoGpus:
    """What the doctor asks NVML, for one GPU of today and one that is too old."""

    class NVMLError(Exception):
        pass

    def nvmlShutdown(self):
        pass

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetName(self, handle):
        return ("NVIDIA H100", "Tesla V100")[handle]

    def nvmlDeviceGetCudaComputeCapability(self, handle):
        return ([9, 0], [7, 0])[handle]

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(total=80e9)


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.82.07\nGCC\n")
    monkeypatch.setattr(gpu, "_VERSION", version)
    monkeypatch.setattr(nvml, "load", TwoGpus)
    monkeypatch.setattr(nvml, "driver_is_here", lambda: True)


@pytest.mark.usefixtures("two_gpus")
def test_gpus_are_named_and_one_that_is_too_old_is_reported(monkeypatch):
    monkeypatch.setattr(shared_libraries, "load", lambda name: None)
    monkeypatch.setattr(gpu, "installed", lambda name: "1.0")
    asks(found(gpu.check_gpu, "driver"), Status.FINE, "580.82.07")
    asks(found(gpu.check_gpu, "gpu 0"), Status.FINE, "NVIDIA H100", "9.0", "80 GB")
    asks(found(gpu.check_gpu, "gpu 1"), Status.ERROR, "7.0", "7.5")
    asks(found(gpu.check_gpu, "libnvinfer.so.10"), Status.FINE)


@pytest.mark.usefixtures("two_gpus")
def test_a_driver_without_libraries(monkeypatch):
    absent = "{}: cannot open shared object file: No such file or directory"
    monkeypatch.setattr(shared_libraries, "load", lambda name: absent.format(name))
    asks(found(gpu.check_gpu, "libcudnn.so.9"), Status.ERROR, "not found", "onnxruntime-gpu")
    asks(found(gpu.check_gpu, "libnvinfer.so.10"), Status.ERROR, "tensorrt-cu13")
    monkeypatch.setattr(shared_libraries, "load", lambda name: "wrong ELF class")
    asks(found(gpu.check_gpu, "libcudnn.so.9"), Status.ERROR, "wrong ELF class")


@pytest.mark.usefixtures("two_gpus")
def test_backends_are_reported_for_each_gpu():
    names = [finding.name for finding in backends.check_backends() if finding.group == GPU]
    assert {"onnxruntime:cuda:0", "onnxruntime:cuda:1", "onnxruntime:tensorrt:1"} <= set(names)


def test_a_driver_without_the_package(monkeypatch):
    monkeypatch.setattr(nvml, "load", lambda: None)
    monkeypatch.setattr(nvml, "driver_is_here", lambda: True)
    asks(found(gpu.check_gpu, "devices"), Status.ERROR, "nvidia-ml-py")
