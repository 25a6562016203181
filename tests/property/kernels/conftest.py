"""Properties of the CPU's kernels and of their twins for GPUs."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

#: Of a property in the simulator, which has a thread of Python for each thread of a GPU.
_FEW = 6


class Implementation:
    """The kernels of the CPU or those for GPUs, called with NumPy arrays either way."""

    def __init__(self, package: str) -> None:
        self._package = package
        self.simulated = self.on_gpu = False
        if package.endswith("cuda"):
            from sluice.kernels.cuda.launch import SIMULATED

            self.simulated, self.on_gpu = SIMULATED, not SIMULATED

    def kernels(self, name: str) -> Any:
        """Return the kernels of a module, such as ``wafer``."""
        module = importlib.import_module(f"{self._package}.{name}")
        if not self.on_gpu:
            return module
        functions = {name: _carried(getattr(module, name)) for name in module.__all__}
        return SimpleNamespace(**functions)

    def check(self, holds: Callable[..., None], *strategies: Any, few: int = _FEW) -> None:
        """Run a property; in the simulator with a few examples."""
        if self.simulated:
            slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
            brief = settings(max_examples=few, deadline=None, suppress_health_check=slow)
            with warnings.catch_warnings():
                # What NumPy warns of, a GPU does in silence.
                warnings.simplefilter("ignore", RuntimeWarning)
                brief(given(*strategies)(holds))()
        else:
            given(*strategies)(holds)()


def _carried(kernel: Callable[..., None]) -> Callable[..., None]:
    """Let a kernel for device arrays take arrays of the host."""

    def call(*arguments: Any) -> None:
        from numba import cuda

        there = [cuda.to_device(a) if isinstance(a, np.ndarray) else a for a in arguments]
        kernel(*there)
        for here, array in zip(arguments, there, strict=True):
            if isinstance(here, np.ndarray) and here.flags.writeable and here.size:
                array.copy_to_host(here)

    return call


@pytest.fixture(params=["sluice.kernels", "sluice.kernels.cuda"], ids=["cpu", "cuda"])
def implementation(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    """One after the other."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield Implementation(request.param)
    sys.setswitchinterval(before)
