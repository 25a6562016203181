"""What the host does to launch a kernel, with a driver that has no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SOURCE = Path(__file__).parent / "driver" / "cuda.c"

SCRIPT = """
import numpy as np
from sluice.kernels.cuda import wafer

class Array:
    def __init__(self, shape, typestr, address):
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": typestr, "data": (address, False), "version": 3}

for rows, stream in ((100, 0), (128, 0x770), (0, 0)):
    wafer.unpack(Array((rows, 12), "<u4", 4096), Array((rows, 48), "<f4", 8192), stream=stream)
try:
    wafer.unpack(Array((1, 12), "<u4", 4100), Array((1, 48), "<f4", 8192))
except ValueError as error:
    print(error)
"""


pytestmark = pytest.mark.programs("gcc")


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """What the script prints, and on standard error what the driver was asked for."""
    folder = tmp_path_factory.mktemp("driver")
    library = folder / "libcuda.so.1"
    build = ["gcc", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"]
    subprocess.run(build, check=True, timeout=60)
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    environment |= {"LD_LIBRARY_PATH": str(folder), "PARAMETERS": "15"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env=environment, capture_output=True, text=True, timeout=110,
    )  # fmt: skip


def test_a_launch_is_all_that_the_driver_sees(completed: subprocess.CompletedProcess[str]) -> None:
    assert completed.returncode == 0, completed.stderr
    # Of an array: two that are always 0, its size, an element's, its address, shape and strides.
    launches = [
        f"launch {grid} 256 {stream} {words} {charges} {12 * rows}"
        for grid, stream, rows in ((5, 0, 100), (6, 0x770, 128))
        for words in (f"0 0 {12 * rows} 4 4096 {12 * rows} 4",)
        for charges in (f"0 0 {48 * rows} 4 8192 {48 * rows} 4",)
    ]
    assert completed.stderr.splitlines() == launches


def test_an_address_that_does_not_suit_vectors_is_refused(
    completed: subprocess.CompletedProcess[str],
) -> None:
    assert "unpack: words: expected an address that is a multiple of 16" in completed.stdout
