"""The project's pages, in pieces that tests can hold against the code."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def blocks() -> Callable[[Path, str], list[str]]:
    """Code blocks of a page by language."""

    def find(page: Path, language: str) -> list[str]:
        return [text for kind, text in _BLOCK.findall(page.read_text()) if kind == language]

    return find


@pytest.fixture(scope="session")
def section() -> Callable[[Path, str], str]:
    """Text of a page under a heading, up to the next heading of the same or a higher level."""

    def find(page: Path, heading: str) -> str:
        level = heading.partition(" ")[0]
        end = rf"(?=^#{{1,{len(level)}}} |\Z)"
        match = re.search(rf"^{re.escape(heading)}\n(.*?){end}", page.read_text(), re.M | re.S)
        assert match, f"{page.name} has no heading {heading!r}"
        return match[1]

    return find


@pytest.fixture(scope="session")
def rows() -> Callable[[str], list[list[str]]]:
    """Rows of the tables in a text, without their heads, backticks taken off."""

    def find(text: str) -> list[list[str]]:
        found: list[list[str]] = []
        lines = text.splitlines()
        for number, line in enumerate(lines):
            if not line.startswith("|") or set(line) <= set("|-: "):
                continue
            following = lines[number + 1] if number + 1 < len(lines) else ""
            if following.startswith("|") and set(following) <= set("|-: "):
                continue
            found.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
        return found

    return find
