"""How long the tests of a list take without a fault, and which of them fail even so."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, dataclass
from pathlib import Path

from .areas import digest_of_tests
from .lane import Lane

#: Longest time that tests without a fault may take, s.
_LIMIT_S = 3600.0


@dataclass
class Baseline:
    """Times of one list of tests without a fault.

    Parameters
    ----------
    seconds
        Of the whole list.
    slowest_s
        Of the slowest test.
    files
        Of each file, s.
    failing
        Tests that fail here without a fault: they are left out.
    """

    seconds: float
    slowest_s: float
    files: dict[str, float]
    failing: list[str]

    def in_order(self, mutated: str) -> list[str]:
        """Return the files: first those that are named after the mutated one, and quick ones."""
        stem = Path(mutated).stem
        return sorted(self.files, key=lambda file: (stem not in file, self.files[file]))


class Baselines:
    """Baselines of lists of tests, measured when they are asked for and kept in a file.

    Parameters
    ----------
    path
        The file.
    root
        The tree.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self._path = path
        self._root = root

    def of(self, lane: Lane, tests: tuple[str, ...]) -> Baseline:
        """Return the baseline of a list; runs the list if its tests have changed since."""
        known = json.loads(self._path.read_text()) if self._path.exists() else {}
        digest = digest_of_tests(self._root, tests)
        if digest not in known:
            known[digest] = asdict(_measure(lane, tests))
            self._path.write_text(json.dumps(known, indent=1))
        return Baseline(**known[digest])


def _measure(lane: Lane, tests: tuple[str, ...]) -> Baseline:
    """Run a list, and once more if it compiled kernels, which takes longer than most tests."""
    report = lane.tree.parent / "baseline.xml"
    arguments = [*tests, "--junitxml", str(report)]
    compiled = _count(lane)
    run = lane.pytest(arguments, _LIMIT_S)
    if run.status == 1 or _count(lane) != compiled:
        run = lane.pytest(arguments, _LIMIT_S)
    if run.status not in (0, 1):
        raise SystemExit(f"the tests {', '.join(tests)} do not run:\n{run.output[-2000:]}")
    files: dict[str, float] = {}
    slowest = 0.0
    for case in ElementTree.parse(report).iter("testcase"):
        seconds, file = float(case.attrib["time"]), _file(lane.tree, case.attrib["classname"])
        files[file] = files.get(file, 0.0) + seconds
        slowest = max(slowest, seconds)
    for name in run.failed:
        sys.stderr.write(f"fails without a fault, and is left out: {name}\n")
    return Baseline(run.seconds, slowest, files, run.failed)


def _count(lane: Lane) -> int:
    """Return how many kernels the lane has compiled."""
    return sum(1 for _ in lane.compiled.rglob("*.nbc"))


def _file(tree: Path, name: str) -> str:
    """Return the file of a test class or module that has a dotted name."""
    parts = name.split(".")
    while parts and not (tree / "/".join(parts)).with_suffix(".py").is_file():
        parts.pop()
    return "/".join(parts) + ".py"
