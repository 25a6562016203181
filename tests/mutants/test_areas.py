"""The table of areas fits the tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from .areas import Area, digest_of_tests, read_areas

ROOT = Path(__file__).resolve().parents[2]
areas = pytest.mark.parametrize("area", read_areas(), ids=lambda area: area.name)


@areas
def test_every_pattern_matches_a_module(area: Area) -> None:
    assert [pattern for pattern in area.sources if not any(ROOT.glob(pattern))] == []


@areas
def test_every_test_exists(area: Area) -> None:
    assert [path for tests in area.tests for path in tests if not (ROOT / path).exists()] == []


@areas
def test_narrow_tests_start_no_process(area: Area) -> None:
    assert not [path for path in area.tests[0] if path.startswith("tests/integration")]


def test_areas_are_chosen_by_parts_of_their_names() -> None:
    assert [area.name for area in read_areas("ledger, menu")] == ["ledger and accounting", "menu"]
    with pytest.raises(SystemExit, match="no area is called 'ledgers'; there are: ledger and acc"):
        read_areas("ledgers")


def test_a_digest_sees_every_file_of_the_tests(tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "unit"
    folder.mkdir(parents=True)
    paths = ("tests/unit", "tests/test_b.py")
    (folder / "test_a.py").write_text("one")
    (tmp_path / "tests" / "test_b.py").write_text("two")
    digests = [digest_of_tests(tmp_path, paths)]
    for file, text in (("unit/test_a.py", "three"), ("test_b.py", "four"), ("unit/c.py", "")):
        (tmp_path / "tests" / file).write_text(text)
        digests.append(digest_of_tests(tmp_path, paths))
    assert len(set(digests)) == 4
