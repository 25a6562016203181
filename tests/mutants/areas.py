"""The areas of the code in which faults are planted, and the tests that look for them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

TABLE = Path(__file__).with_name("areas.toml")


@dataclass(frozen=True)
class Area:
    """A part of the code.

    Parameters
    ----------
    name
        What it is called in reports.
    sources
        Patterns of its files below the root.
    tests
        Lists of files and folders of tests; the lists run one after the other.
    """

    name: str
    sources: tuple[str, ...]
    tests: tuple[tuple[str, ...], ...]

    def files(self, root: Path) -> list[str]:
        """Return the source files, sorted, as paths below the root."""
        found = {path for pattern in self.sources for path in root.glob(pattern)}
        return sorted(path.relative_to(root).as_posix() for path in found
                      if path.name != "__init__.py")  # fmt: skip


def read_areas(names: str = "") -> list[Area]:
    """Return the areas whose names contain one of the words, separated by commas; else all.

    Raises
    ------
    SystemExit
        If no area has such a name.
    """
    table = tomllib.loads(TABLE.read_text())
    areas = [
        Area(name, tuple(entry["sources"]), tuple(tuple(step) for step in entry["tests"]))
        for name, entry in table.items()
    ]
    words = [word.strip() for word in names.split(",")]
    chosen = [area for area in areas if any(word in area.name for word in words)]
    if not chosen:
        raise SystemExit(f"no area is called {names!r}; there are: {', '.join(table)}")
    return chosen


def digest_of_tests(root: Path, paths: tuple[str, ...]) -> str:
    """Return a hash over the names and contents of test files, and of what they share."""
    hashed = sha256("\n".join(paths).encode())
    for path in paths:
        for file in sorted((root / path).rglob("*.py")) or [root / path]:
            hashed.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return hashed.hexdigest()[:16]
