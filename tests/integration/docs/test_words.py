"""Words that were given up for those of the field: none comes back, in code, messages or pages."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

#: What is searched. The changelog tells of old names, this file lists them.
FOLDERS = ("benchmarks", "deploy", "docs", "exporters", "kernels", "package", "pipeline", "tests")
SUFFIXES = {".md", ".py", ".service", ".sh", ".toml", ".yml"}

#: Refused everywhere, with what to say instead (docs/reference/glossary.md).
WORDS = {
    r"nurser(y|ies)": "fork server",
    r"births?|born|bear(s|ing)?": "spawn",
    r"ferry|ferries|berths?|voyages?|cargo": "double-buffered executor, stream buffers",
    r"mourn\w*|bur(y|ied|ies)|bereav\w*|reviv\w*": "on_exit, forget, reclaim, restart",
    r"crews?|guests?": "worker pool, remote workers",
    r"outlets?": "result socket",
    r"hubs?": "router",
    r"intake": "batch reader",
    r"flights": "in-flight batches",
    r"wishes": "run options",
    r"dictat\w*": "fixes the rung",
    r"last ?words?|LastWords": "ErrorRecord",
    r"hoards?": "queue_while_disconnected",
    r"tally|tallies": "batch summariser",
}
#: Refused as a part of a name, where as words of a sentence they are plain English.
NAME_PARTS = {
    "carry", "door", "gate", "judge", "judged", "judges", "judgement", "least", "most", "orphans",
    "room", "rooms", "told", "terms", "wish",
}  # fmt: skip
_WORDS = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)


def _files(root: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES and path != Path(__file__) and "corpus" not in path.parts:
                yield path
    yield root / "README.md"
    yield root / "Makefile"


def _instead(word: str) -> str:
    return next(new for old, new in WORDS.items() if re.fullmatch(old, word, re.IGNORECASE))


@pytest.fixture(scope="module")
def sources(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in _files(root)}


def test_old_words_are_gone(sources: dict[str, str]) -> None:
    found = [
        f"{name}:{number}: {match[0]!r}: say {_instead(match[1])}"
        for name, text in sources.items()
        for number, line in enumerate(text.splitlines(), 1)
        for match in _WORDS.finditer(line.replace("_", " "))
    ]
    assert not found, "\n".join(found)


def test_no_name_is_made_of_old_words(sources: dict[str, str]) -> None:
    found = []
    for name, text in sources.items():
        if not name.endswith(".py"):
            continue
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", token.string)
            if token.type == tokenize.NAME and NAME_PARTS & {part.lower() for part in parts}:
                found.append(f"{name}:{token.start[0]}: {token.string}")
    assert not found, "\n".join(found)
