"""Faults are drawn by lines, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from .sample import draw

#: A line on which many faults fit, and nine on which few do.
_LONG = "a = f(1 + 2 + 3 + 4 + 5, b=6, c=7, d=8) + g(9, 10, 11, 12) + h(13, 14, 15)\n"
_SHORT = "".join(f"v{n} = w{n} + x{n}\n" for n in range(9))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "one.py").write_text(_LONG + _SHORT)
    (tmp_path / "two.py").write_text(_SHORT)
    return tmp_path


def test_no_line_is_drawn_twice(tree: Path) -> None:
    drawn = draw(tree, ["one.py", "two.py"], 100, 1)
    assert len({(mutant.file, mutant.edit.line) for mutant in drawn}) == len(drawn) == 19


def test_a_line_with_many_faults_is_drawn_no_more_often(tree: Path) -> None:
    drawn = Counter(draw(tree, ["one.py"], 1, seed)[0].edit.line for seed in range(400))
    # 40 ± 6 of each line: five standard deviations of a binomial distribution.
    assert set(drawn) == set(range(1, 11))
    assert all(10 <= count <= 70 for count in drawn.values())


def test_the_same_seed_draws_the_same_and_more_of_it_begins_with_it(tree: Path) -> None:
    files = ["one.py", "two.py"]
    assert draw(tree, files, 8, 3) == draw(tree, files, 8, 3) == draw(tree, files, 15, 3)[:8]
    assert draw(tree, files, 8, 3) != draw(tree, files, 8, 4)


def test_a_new_line_changes_the_order_of_no_other(tree: Path) -> None:
    before = [mutant.edit.line for mutant in draw(tree, ["one.py"], 100, 1)]
    (tree / "one.py").write_text("new = old + 1\n" + (tree / "one.py").read_text())
    after = [mutant.edit.line for mutant in draw(tree, ["one.py"], 100, 1)]
    assert [line - 1 for line in after if line != 1] == before


def test_what_is_no_python_is_not_drawn(tmp_path: Path) -> None:
    """`not` in a condition of a call is, a keyword that others need is not."""
    (tmp_path / "one.py").write_text("for a in b:\n    c = d\nelse:\n    e = f\nwhile g: break\n")
    for seed in range(50):
        for mutant in draw(tmp_path, ["one.py"], 10, seed):
            assert mutant.edit.new in ("()", "False", "continue")
