"""With SLUICE_FAST_IMPORT kernels load only what they need; without it numba is as it is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

KERNELS = """
import sys
import numpy as np
from importlib.util import find_spec
from numba import njit
from numba.core import entrypoints
from sluice.kernels import wafer

charge = np.empty((1, wafer.CELLS), np.float32)
wafer.unpack(np.zeros((1, 12), np.uint32), charge)
assert wafer.packed_bytes(9) == 20
"""

FAST = """
assert not entrypoints._already_initialized, "a kernel has loaded numba's extensions"
assert "scipy.linalg" not in sys.modules, "a kernel has loaded linear algebra"
njit(lambda x: x + 1)(1)
assert entrypoints._already_initialized, "others do not get numba's extensions any more"
if find_spec("scipy"):
    assert njit(lambda x: np.dot(x, x))(np.ones(3)) == 3.0
"""

USUAL = """
assert entrypoints._already_initialized
assert ("scipy.linalg" in sys.modules) == (find_spec("scipy") is not None)
"""

ANOTHER_NUMBA = "import numba; numba.version_info = numba.version_info._replace(short=(0, 99))"

THE_COMMAND = """
import os, sys
from sluice.pipeline.cli.main import main
sys.argv = ["sluice", "--version"]
try:
    main()
except SystemExit as end:
    assert not end.code
assert os.environ["SLUICE_FAST_IMPORT"] == "1"
"""


def run(script: str, **environment: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "SLUICE_FAST_IMPORT"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=120, env=kept | environment
    )
    assert done.returncode == 0, done.stderr.decode()


def test_what_kernels_do_not_need_is_left_to_others_if_asked():
    run(KERNELS + FAST, SLUICE_FAST_IMPORT="1")


@pytest.mark.parametrize("environment", [{}, {"SLUICE_FAST_IMPORT": "0"}], ids=["unset", "0"])
def test_library_users_get_numba_as_it_is(environment):
    run(KERNELS + USUAL, **environment)


def test_an_untested_numba_is_left_as_it_is():
    run(f"{ANOTHER_NUMBA}\n{KERNELS}{USUAL}", SLUICE_FAST_IMPORT="1")


def test_our_commands_ask_for_it():
    run(THE_COMMAND)
