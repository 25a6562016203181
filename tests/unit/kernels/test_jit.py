"""Kernels start quickly: nothing is loaded for them that none of them needs."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import numpy as np
from numba import njit
from numba.core import entrypoints
from sluice.kernels import wafer

charge = np.empty((1, wafer.CELLS), np.float32)
wafer.unpack(np.zeros((1, 12), np.uint32), charge)
assert wafer.packed_bytes(9) == 20
assert not entrypoints._already_initialized, "a kernel has loaded numba's extensions"
njit(lambda x: x + 1)(1)
assert entrypoints._already_initialized, "others do not get numba's extensions any more"
"""


def test_numba_s_extensions_are_left_to_those_who_want_them():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
