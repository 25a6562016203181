"""Every kernel for GPUs is measured, with arguments that it takes; tried in the simulator."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
import sluice.kernels.cuda
from sluice.kernels.cuda.launch import SIMULATED, Kernel

_GPU = Path(__file__).resolve().parents[3] / "benchmarks" / "gpu"
_OTHERS = ("intrinsics_device",) if SIMULATED else ("intrinsics_simulated", "simulator")


@pytest.fixture(scope="module")
def cases():
    sys.path.insert(0, str(_GPU))
    yield importlib.import_module("cases")
    sys.path.remove(str(_GPU))
    del sys.modules["cases"]


@pytest.fixture(scope="module")
def kernels():
    found = {}
    prefix = f"{sluice.kernels.cuda.__name__}."
    for module in pkgutil.walk_packages(sluice.kernels.cuda.__path__, prefix):
        if module.name.removeprefix(prefix) not in _OTHERS:
            whole = importlib.import_module(module.name)
            found |= {k.name: k for k in vars(whole).values() if isinstance(k, Kernel)}
    return found


def test_every_kernel_has_a_case(cases, kernels):
    assert sorted(case.kernel for case in cases.CASES) == sorted(kernels)


def test_bytes_are_those_that_the_kernels_declare(cases, kernels):
    for case in cases.CASES:
        if not case.kernel.startswith("pad"):  # theirs depend on the lists
            traffic = kernels[case.kernel].traffic
            assert case.bytes_per_event() == pytest.approx(traffic.read + traffic.written, abs=1)


@pytest.mark.skipif(not SIMULATED, reason="on a GPU the check itself runs them")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_kernel_takes_its_arguments(cases, kernels, monkeypatch):
    for case in cases.CASES:
        launched = []
        monkeypatch.setattr(Kernel, "__call__", lambda self, *_, to=launched: to.append(self.name))
        case.call()(*case.arguments(4))
        assert launched == [case.kernel]


class Clock:
    """In the place of a GPU: one launch takes a millisecond."""

    peak = 1e12

    def put(self, argument):
        return argument

    def seconds(self, launch):
        launch()
        return 1e-3


def test_a_measurement(cases, monkeypatch):
    monkeypatch.syspath_prepend(str(_GPU))
    measuring = importlib.import_module("rooflines")
    case = cases.Case("one", "none", "none", lambda n: (np.zeros((n, 25), np.float32), 3))
    monkeypatch.setattr(cases.Case, "call", lambda self: lambda array, number: None)
    found = measuring.measure(case, Clock())
    assert found["bytes_per_event"] == 100
    assert found["rate_hz"] == found["events"] * 1e3 == case.max_events * 1e3
    assert found["share_of_peak"] == pytest.approx(case.max_events * 100 * 1e3 / 1e12)
    monkeypatch.setattr(cases.Case, "call", lambda self: lambda *_: 1 / 0)
    assert "ZeroDivisionError" in measuring.measure(case, Clock())["why"]
    del sys.modules["rooflines"]
