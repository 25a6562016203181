"""The machine is named as its own tools name it."""

from __future__ import annotations

import platform
import subprocess

import pytest

from sluice.pipeline.system import machine


@pytest.mark.programs("lscpu")
def test_the_processor_is_that_of_lscpu():
    lscpu = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
    names = [line.partition(":")[2].strip() for line in lscpu.splitlines() if "Model name" in line]
    assert machine.processor() in (names or [platform.processor() or platform.machine()])
