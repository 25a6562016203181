"""Records how long each test takes, whether it fails, and which lines of the code it runs."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

#: What a test runs before and after itself belongs to all tests of its file: fixtures are shared.
SHARED = "shared"


class Recorder:
    """A plugin of pytest.

    Parameters
    ----------
    path
        File for the times; the lines go into another one with the suffix ``.lines``.
    lines
        Whether the lines are recorded; only those of this process are seen.
    """

    def __init__(self, path: Path, *, lines: bool) -> None:
        self._path = path
        self._seconds: dict[str, float] = {}
        self._failing: list[str] = []
        self._coverage: Any = None
        if lines:
            self._coverage = importlib.import_module("coverage").Coverage(
                data_file=str(path.with_suffix(".lines")), config_file=False,
                include=[f"{Path.cwd()}/*"], omit=[f"{Path.cwd()}/tests/*"],
            )  # fmt: skip
            self._coverage.set_option("run:relative_files", True)  # lanes are in several folders
            self._coverage.erase()
            self._coverage.start()

    def _enter(self, context: str) -> None:
        if self._coverage is not None:
            self._coverage.switch_context(context)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._enter(f"{item.nodeid}|{SHARED}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        self._enter(item.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        self._enter(f"{item.nodeid}|{SHARED}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        seconds = self._seconds.get(report.nodeid, 0.0)
        self._seconds[report.nodeid] = seconds + report.duration
        if report.failed and report.nodeid not in self._failing:
            self._failing.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        if self._coverage is not None:
            self._coverage.stop()
            self._coverage.save()
        kept = {"seconds": self._seconds, "failing": self._failing}
        self._path.write_text(json.dumps(kept, indent=1))
