"""Kernels start quickly: nothing is loaded for them that none of them needs."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
import numpy as np
from importlib.util import find_spec
from numba import njit
from numba.core import entrypoints
from sluice.kernels import wafer

charge = np.empty((1, wafer.CELLS), np.float32)
wafer.unpack(np.zeros((1, 12), np.uint32), charge)
assert wafer.packed_bytes(9) == 20
assert not entrypoints._already_initialized, "a kernel has loaded numba's extensions"
assert "scipy.linalg" not in sys.modules, "a kernel has loaded linear algebra"
njit(lambda x: x + 1)(1)
assert entrypoints._already_initialized, "others do not get numba's extensions any more"
if find_spec("scipy"):
    assert njit(lambda x: np.dot(x, x))(np.ones(3)) == 3.0
"""


def test_what_kernels_do_not_need_is_left_to_those_who_want_it():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
