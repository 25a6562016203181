"""The machine is named as its own tools name it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from sluice.benchmarks.conditions import benchmark_conditions
from sluice.pipeline.system import machine


@pytest.mark.skipif(shutil.which("lscpu") is None, reason="no lscpu")
def test_the_processor_is_that_of_lscpu():
    told = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
    names = [line.partition(":")[2].strip() for line in told.splitlines() if "Model name" in line]
    assert machine.processor() in (names or [platform.processor() or platform.machine()])


def test_without_a_name_the_architecture(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "processor : 0\n")
    assert machine.processor() in (platform.processor(), platform.machine())


def test_conditions_count_the_cores_that_may_be_used():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert benchmark_conditions()["cores"] == 1
    finally:
        os.sched_setaffinity(0, allowed)
