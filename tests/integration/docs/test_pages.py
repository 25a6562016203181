"""Links resolve, files that are spoken of exist, and graph files that are shown are graphs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice.pipeline.config.graph_file import parse_graph

_ROOT = Path(__file__).resolve().parents[3]
_PAGES = sorted(
    page for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md") for page in _ROOT.glob(pattern)
)
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_FILE = re.compile(r"`((?:pipeline|kernels|exporters|deploy|docs|tests|benchmarks)/[\w./@-]*)`")

pages = pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))


@pages
def test_links_resolve(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        if not target.startswith(("http://", "https://")):
            path, _, anchor = target.partition("#")
            assert (page.parent / path).exists(), target
            assert not anchor, f"{target}: anchors are not checked here, link the page"


@pages
def test_files_spoken_of_exist(page: Path) -> None:
    for name in _FILE.findall(page.read_text()):
        assert (_ROOT / name).exists(), name


@pages
def test_graphs_shown_are_graphs(page: Path, blocks: Callable[[Path, str], list[str]]) -> None:
    for text in blocks(page, "toml"):
        if "[graph]" in text:
            assert parse_graph(text, page.name).stages


@pages
def test_pages_have_one_title(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    assert len(re.findall(r"^# ", text, re.M)) == 1
