"""A run of the tests says which of them did not run, and why."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

CONFTEST = str(Path(__file__).resolve().parents[1] / "conftest.py")


def test_the_reasons_of_skips_are_shown(pytestconfig: pytest.Config) -> None:
    plugins = pytestconfig.pluginmanager.get_plugins()
    conftest = next(p for p in plugins if getattr(p, "__file__", None) == CONFTEST)
    absent, no_gpu = "no real data: /data/a.csv is absent; set SLUICE_DATA", "no GPU is here"
    skipped = [
        SimpleNamespace(longrepr=("test_a.py", 7, f"Skipped: {reason}"))
        for reason in (absent, no_gpu, absent)
    ]
    lines: list[str] = []
    conftest.pytest_terminal_summary(
        SimpleNamespace(stats={"skipped": skipped, "passed": [1]}, write_line=lines.append)
    )
    assert lines == [f"skipped 1 tests: {no_gpu}", f"skipped 2 tests: {absent}"]
