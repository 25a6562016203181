"""What is kept of a fault, when it is tried again, and which faults make no difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .areas import Area
from .results import EVERYTHING, Results, mark_equivalent, read_equivalent, summary, table
from .sample import Mutant, draw
from .trial import Verdict

ROOT = Path(__file__).resolve().parents[2]
_NARROW, _WIDE = ("test_narrow.py",), ("test_wide.py",)
AREA = Area("one's area", ("one.py",), (_NARROW, _WIDE))
_SURVIVED = Verdict("survived", "", 1.5)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "one.py").write_text("a = b + c\n")
    for folder in EVERYTHING:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test_it.py").write_text("")
    for tests in AREA.tests:
        (tmp_path / tests[0]).write_text("")
    return tmp_path


@pytest.fixture
def mutant(tree: Path) -> Mutant:
    return draw(tree, ["one.py"], 1, 1)[0]


def test_what_was_found_is_not_tried_again(tree: Path, mutant: Mutant) -> None:
    verdict = Verdict("found", "test_narrow.py::test_it", 2.0)
    Results(tree, AREA, tree).add(mutant, verdict, [_NARROW])
    (tree / "test_narrow.py").write_text("changed")
    again = Results(tree, AREA, tree)
    assert again.left(mutant, [_NARROW, _WIDE]) == []
    kept = again.known(mutant)
    assert kept is not None
    assert len(kept.pop("passed")) == 1
    assert kept.pop("key").endswith(":6-7:arithmetic:-")
    assert kept == {
        "area": "one's area", "file": "one.py", "line": 1, "operator": "arithmetic",
        "before": "a = b + c", "after": "a = b - c",
        "diff": "--- one.py\n+++ one.py\n@@ -1 +1 @@\n-a = b + c\n+a = b - c",
        "result": "found", "test": "test_narrow.py::test_it", "seconds": 2.0,
    }  # fmt: skip


def test_what_survived_is_tried_with_other_tests_only(tree: Path, mutant: Mutant) -> None:
    results = Results(tree, AREA, tree)
    assert results.left(mutant, [_NARROW, _WIDE]) == [_NARROW, _WIDE]
    results.add(mutant, _SURVIVED, [_NARROW])
    assert results.left(mutant, [_NARROW, _WIDE]) == [_WIDE]
    Results(tree, AREA, tree).add(mutant, _SURVIVED, [_WIDE])
    assert Results(tree, AREA, tree).left(mutant, [_NARROW, _WIDE]) == []


def test_changed_tests_look_again_for_what_survived(tree: Path, mutant: Mutant) -> None:
    Results(tree, AREA, tree).add(mutant, _SURVIVED, [_NARROW, _WIDE])
    (tree / "test_wide.py").write_text("changed")
    assert Results(tree, AREA, tree).left(mutant, [_NARROW, _WIDE]) == [_WIDE]


def test_a_changed_file_is_tried_anew(tree: Path, mutant: Mutant) -> None:
    Results(tree, AREA, tree).add(mutant, Verdict("found", "", 1.0), [_NARROW])
    (tree / "one.py").write_text("a = b + c  # changed\n")
    assert Results(tree, AREA, tree).left(mutant, [_NARROW]) == [_NARROW]


def _entry(result: str, **other: Any) -> dict[str, Any]:
    entry = {"result": result, "file": "one.py", "line": 3, "operator": "arithmetic",
             "before": "a = b + c", "after": "a = b - c",
             "diff": "--- one.py\n+++ one.py\n@@ -3 +3 @@\n-a = b + c\n+a = b - c"}  # fmt: skip
    return entry | other


def test_the_share_leaves_out_what_makes_no_difference() -> None:
    results = ["found"] * 5 + ["timed out", "not imported"] + ["survived"] * 2 + ["equivalent"]
    counted = summary("area", [_entry(result) for result in results])
    survivors = counted.pop("survivors")
    assert counted == {
        "area": "area", "mutants": 10, "found": 5, "timed out": 1, "not imported": 1,
        "survived": 2, "equivalent": 1, "share": 0.778,
    }  # fmt: skip
    assert [one["result"] for one in survivors] == ["survived"] * 2
    assert summary("area", [])["share"] is None


def test_the_table_shows_survivors_with_their_diffs() -> None:
    lines = table([summary("one", [_entry("found"), _entry("survived")])]).splitlines()
    assert lines[0].split() == [
        "area", "mutants", "found", "timed", "out", "not", "imported", "survived", "equivalent",
        "share",
    ]  # fmt: skip
    assert lines[1].split() == ["one", "2", "1", "0", "0", "1", "0", "0.5"]
    assert lines[3:] == ["one.py:3: survived (arithmetic)", "@@ -3 +3 @@", "-a = b + c",
                         "+a = b - c"]  # fmt: skip


def test_a_known_fault_without_effect_is_marked_with_the_reason() -> None:
    known = [{"file": "one.py", "before": "a = b + c", "after": "a = b - c", "reason": "c is 0"}]
    marked = mark_equivalent(_entry("survived"), known)
    assert marked == _entry("equivalent", reason="c is 0")
    for other in (_entry("found"), _entry("survived", after="a = b * c")):
        assert mark_equivalent(other, known) == other


def test_lines_of_faults_without_effect_are_still_there() -> None:
    gone = [
        known
        for known in read_equivalent()
        if known["before"] not in map(str.strip, (ROOT / known["file"]).read_text().splitlines())
    ]
    assert gone == []


def test_every_fault_without_effect_has_a_reason() -> None:
    for known in read_equivalent():
        assert set(known) == {"file", "before", "after", "reason"}
        assert known["before"] != known["after"]
        assert len(known["reason"]) > 20, known
