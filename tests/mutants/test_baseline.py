"""Which tests look for a fault: those that run its line."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

from .baseline import Baseline, lines_of_function
from .edit import Edit, Source
from .sample import Mutant

_TEXT = dedent("""\
    LIMIT = 1

    def one(a, b=2):
        if a and \\
                b:
            return f(
                a,
                b,
            )
        for c in a:
            b += c
        return b

    @cache
    def two():
        return 3

    class Three:
        four = 4

        def five(self):
            return 5

    @kernel((array("u8", 1),))
    def six(a):
        return 6
    """)


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        (1, []),  # at import
        (3, []),  # a default is made at import
        (4, [4, 5]),
        (5, [4, 5]),
        (6, [6, 7, 8, 9]),
        (8, [6, 7, 8, 9]),
        (10, [10]),
        (11, [11]),
        (16, []),  # its result is kept
        (19, []),
        (22, [22]),
        (26, []),  # it is compiled
    ],
)
def test_lines_of_a_statement(line: int, lines: list[int]) -> None:
    assert list(lines_of_function(Source(_TEXT), line)) == lines


_CODE = """\
def one():
    return 1


def two():
    return 2


def shared():
    return 3


LIMIT = 4


def untested():
    return 5
"""
_SECONDS = {
    "tests/test_slow.py::test_one": 9.0,
    "tests/test_slow.py::test_two": 1.0,
    "tests/test_quick.py::test_one": 1.0,
    "tests/test_quick.py::test_three": 1.0,
    "tests/test_code.py::test_one": 20.0,
}
#: Lines of the code that each test runs; "shared" is what it runs before or after itself.
_RUNS = {
    "tests/test_slow.py::test_one": [2],
    "tests/test_slow.py::test_two": [6],
    "tests/test_quick.py::test_one": [2],
    "tests/test_quick.py::test_three|shared": [10],
    "tests/test_code.py::test_one": [2],
}


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    import coverage

    (tmp_path / "code.py").write_text(_CODE)
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "code.py").write_text(_CODE)
    path = tmp_path / "kept.json"
    path.write_text(json.dumps({"seconds": _SECONDS, "failing": []}))
    data = coverage.CoverageData(str(path.with_suffix(".lines")))
    for context, lines in _RUNS.items():
        data.set_context(context)
        data.add_lines({"code.py": lines})
    data.write()
    return Baseline(path, tmp_path)


def _mutant(line: int, file: str = "code.py") -> Mutant:
    return Mutant(file, Edit(line, 0, 0, "", "constant"))


def test_tests_that_run_the_line_are_taken_the_namesake_s_and_quick_ones_first(
    baseline: Baseline,
) -> None:
    assert baseline.select(_mutant(2)) == [
        "tests/test_code.py::test_one", "tests/test_quick.py::test_one",
        "tests/test_slow.py::test_one",
    ]  # fmt: skip
    assert baseline.select(_mutant(6)) == ["tests/test_slow.py::test_two"]


def test_what_a_fixture_runs_belongs_to_all_tests_of_the_file(baseline: Baseline) -> None:
    assert baseline.select(_mutant(10)) == [
        "tests/test_quick.py::test_one", "tests/test_quick.py::test_three",
    ]  # fmt: skip


def test_no_test_is_taken_for_a_line_that_none_runs(baseline: Baseline) -> None:
    assert baseline.select(_mutant(17)) == []


@pytest.mark.parametrize("mutant", [_mutant(13), _mutant(2, "kernels/code.py")])
def test_all_tests_are_taken_where_the_lines_do_not_say(baseline: Baseline, mutant: Mutant) -> None:
    assert sorted(baseline.select(mutant)) == sorted(_SECONDS)
