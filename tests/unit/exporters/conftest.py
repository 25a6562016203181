"""Shared by the tests of families."""

import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def no_torch() -> Callable[[str], str]:
    """Value of an expression where torch and plots cannot be imported."""

    def value(expression: str) -> str:
        code = (
            "import sys; sys.modules['torch'] = sys.modules['matplotlib'] = None\n"
            "from sluice.exporters.families.base import get\n"
            f"print({expression})"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return value
