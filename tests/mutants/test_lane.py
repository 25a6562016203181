"""Faults in a small tree: what its tests find, what survives, what never ends."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .baseline import Baselines
from .lane import Lane, PytestRun
from .sample import Mutant, draw
from .trial import try_mutant

_HERE = Path(__file__).parent
_LIBRARIES = ("pytest", "hypothesis", "anyio._backends._asyncio", "xdist.plugin")
_TESTS = ("tests/test_sums.py",)
_FILES = {
    "package/__init__.py": '"""A package."""\n',
    "pipeline/__init__.py": '"""Sums."""\n',
    "pipeline/sums.py": """\
STEP = 1


def total(limit):
    done = found = 0
    while done < limit:
        done += STEP
        found += 2
    return found


def unseen(number):
    return number + 3
""",
    "tests/test_sums.py": """\
import os
from sluice.pipeline.sums import total

def test_total():
    assert total(3) == 6

def test_that_fails_anyway():
    assert "/tree/" not in os.getcwd() + "/"
""",
    "pyproject.toml": """\
[tool.pytest.ini_options]
addopts = ["--import-mode=importlib", "-p", "no:randomly"]
""",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with a module, its tests, and what runs pytest."""
    root = tmp_path_factory.mktemp("root")
    for name, text in _FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    (root / ".gitignore").write_text("ignored\n")
    (root / "ignored").write_text("is not copied")
    shutil.copytree(_HERE, root / "tests" / "mutants")
    subprocess.run(["git", "init", "-q", root], check=True)
    return root


@pytest.fixture(scope="module")
def lane(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    with Lane(root, tmp_path_factory.mktemp("lane"), _LIBRARIES) as lane:
        yield lane


@pytest.fixture(scope="module")
def baselines(tmp_path_factory: pytest.TempPathFactory) -> Baselines:
    return Baselines(tmp_path_factory.mktemp("baselines"))


@pytest.fixture
def planted(root: Path) -> dict[tuple[str, str], Mutant]:
    """All faults of the module, by the line without and with them."""
    faults = {}
    for seed in range(20):
        for mutant in draw(root, ["pipeline/sums.py"], 100, seed):
            text = (root / mutant.file).read_text()
            line = text.splitlines()[mutant.edit.line - 1].strip()
            faults[line, mutant.edit.new] = mutant
    return faults


def test_names_of_failed_tests_are_those_of_the_summary() -> None:
    output = """\
ERROR    sluice.run:session.py:221 report: cannot write it
=========================== short test summary info ============================
FAILED tests/test_a.py::test_one[a - b] - AssertionError: ERROR [1]
FAILED tests/test_a.py::Case::test_two - assert [1] - [2]
ERROR tests/test_b.py - ImportError
1 failed, 1 error in 0.10s
"""
    assert PytestRun(1, 0.1, output).failed == [
        "tests/test_a.py::test_one[a - b]", "tests/test_a.py::Case::test_two", "tests/test_b.py",
    ]  # fmt: skip


def test_a_lane_has_what_git_would_have(lane: Lane) -> None:
    assert (lane.tree / "pipeline" / "sums.py").read_text() == _FILES["pipeline/sums.py"]
    assert not (lane.tree / "ignored").exists()


def test_a_test_that_fails_anyway_is_left_out(lane: Lane, baselines: Baselines) -> None:
    baseline = baselines.of(lane, _TESTS)
    assert baseline.failing == ["tests/test_sums.py::test_that_fails_anyway"]
    assert list(baseline.seconds) == [
        "tests/test_sums.py::test_total",
        "tests/test_sums.py::test_that_fails_anyway",
    ]


@pytest.mark.parametrize(
    ("line", "new", "result", "test"),
    [
        ("found += 2", "-=", "found", "tests/test_sums.py::test_total"),
        ("while done < limit:", "<=", "found", "tests/test_sums.py::test_total"),
        ("return number + 3", "4", "survived", ""),
    ],
)
def test_a_fault_is_found_or_survives(
    lane: Lane, baselines: Baselines, planted: dict[tuple[str, str], Mutant],
    line: str, new: str, result: str, test: str,
) -> None:  # fmt: skip
    verdict = try_mutant(lane, planted[line, new], [_TESTS], baselines)
    assert (verdict.result, verdict.test) == (result, test)
    assert (lane.tree / "pipeline" / "sums.py").read_text() == _FILES["pipeline/sums.py"]


def test_a_fault_that_stops_the_import_is_named_so(
    lane: Lane, baselines: Baselines, root: Path
) -> None:
    text = (root / "pipeline" / "sums.py").read_text()
    edit = draw(root, ["pipeline/sums.py"], 1, 1)[0].edit
    absent = type(edit)(1, text.index("1"), text.index("1") + 1, "absent", "constant")
    verdict = try_mutant(lane, Mutant("pipeline/sums.py", absent), [_TESTS], baselines)
    assert verdict.result == "not imported"


def test_tests_that_never_end_are_ended(
    lane: Lane, baselines: Baselines, planted: dict[tuple[str, str], Mutant]
) -> None:
    with lane.planted(planted["STEP = 1", "0"]):
        run = lane.pytest(["-p", "no:timeout", *_TESTS], 1.0)
    assert run.status == -1
    assert lane.pytest([*_TESTS, "-k", "test_total"], 60.0).status == 0
