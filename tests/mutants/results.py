"""Results of faults, one line of JSON each, and what is made of them."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from .areas import Area, digest_of_tests
from .edit import Source
from .sample import Mutant
from .trial import Verdict

EQUIVALENT = Path(__file__).with_name("equivalent.toml")
#: All tests, in one list.
EVERYTHING = ("tests", "kernels", "pipeline")
#: Results that count as found.
_FOUND = ("found", "timed out", "not imported")


class Results:
    """Results of one area, kept in a file that later runs go on with.

    A fault that was found stays found as long as its file is the same; one that survived is tried
    again with lists of tests that have changed since, or that had not looked for it.

    Parameters
    ----------
    folder
        Where the file is.
    area
        The area.
    root
        The tree.
    """

    def __init__(self, folder: Path, area: Area, root: Path) -> None:
        self.area = area
        self._root = root
        self._path = folder / f"{re.sub('[^a-z]+', '-', area.name)}.jsonl"
        self._digests = {tests: digest_of_tests(root, tests) for tests in (*area.tests, EVERYTHING)}
        self._sources: dict[str, Source] = {}
        self._known: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            entries = map(json.loads, self._path.read_text().splitlines())
            self._known = {entry["key"]: entry for entry in entries}

    def known(self, mutant: Mutant) -> dict[str, Any] | None:
        """Return the last result of a fault; None if it was never tried."""
        return self._known.get(mutant.key(self._source(mutant)))

    def left(self, mutant: Mutant, lists: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """Return the lists of tests that are still to look for a fault."""
        entry = self.known(mutant)
        if entry is None:
            return lists
        if entry["result"] != "survived":
            return []
        return [tests for tests in lists if self._digests[tests] not in entry["passed"]]

    def add(self, mutant: Mutant, verdict: Verdict, lists: list[tuple[str, ...]]) -> dict[str, Any]:
        """Keep what came of a fault after these lists of tests."""
        source, before = self._source(mutant), self.known(mutant)
        line, mutated = source.changed_line(mutant.edit)
        entry = {
            "key": mutant.key(source),
            "area": self.area.name,
            "file": mutant.file,
            "line": mutant.edit.line,
            "operator": mutant.edit.operator,
            "before": line,
            "after": mutated,
            "diff": source.diff(mutant.edit, mutant.file),
            "result": verdict.result,
            "test": verdict.test,
            "seconds": verdict.seconds,
            "passed": (before["passed"] if before else []) + [self._digests[one] for one in lists],
        }
        self._known[str(entry["key"])] = entry
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        return entry

    def _source(self, mutant: Mutant) -> Source:
        """Return a file as it was at first: lanes have a copy of that, whatever is edited since."""
        if mutant.file not in self._sources:
            self._sources[mutant.file] = Source((self._root / mutant.file).read_text())
        return self._sources[mutant.file]


def read_equivalent() -> list[dict[str, str]]:
    """Return the faults that make no difference, each with the reason."""
    entries: list[dict[str, str]] = tomllib.loads(EQUIVALENT.read_text()).get("equivalent", [])
    return entries


def mark_equivalent(entry: dict[str, Any], known: list[dict[str, str]]) -> dict[str, Any]:
    """Return a result, ``equivalent`` instead of ``survived`` if the fault is a known one."""
    if entry["result"] != "survived":
        return entry
    for fault in known:
        if all(fault[name] == entry[name] for name in ("file", "before", "after")):
            return entry | {"result": "equivalent", "reason": fault["reason"]}
    return entry


def summary(area: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many faults of an area had which result, and the share that was found."""
    counts = Counter(entry["result"] for entry in entries)
    tried = len(entries) - counts["equivalent"]
    found = sum(counts[name] for name in _FOUND)
    return {
        "area": area,
        "mutants": len(entries),
        **{name: counts[name] for name in (*_FOUND, "survived", "equivalent")},
        "share": round(found / tried, 3) if tried else None,
        "survivors": [entry for entry in entries if entry["result"] == "survived"],
    }


def table(summaries: list[dict[str, Any]]) -> str:
    """Return the summaries as lines of text, and the survivors with their diffs below."""
    columns = ("area", "mutants", *_FOUND, "survived", "equivalent", "share")
    widths = [24, *(len(name) + 2 for name in columns[1:])]
    rows = [columns, *([str(entry[name]) for name in columns] for entry in summaries)]
    lines = ["".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
             for row in rows]  # fmt: skip
    for entry in (survivor for one in summaries for survivor in one["survivors"]):
        lines += ["", f"{entry['file']}:{entry['line']}: survived ({entry['operator']})"]
        lines += entry["diff"].splitlines()[2:]
    return "\n".join(lines) + "\n"
