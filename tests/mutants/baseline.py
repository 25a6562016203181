"""What the tests of a list do without a fault: times, failures, and the lines that they run."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from .areas import digest_of_tests
from .edit import Source
from .lane import Lane
from .recorder import SHARED
from .sample import Mutant

#: Longest time that tests without a fault may take, s.
_LIMIT_S = 3600.0


class Baseline:
    """What one list of tests does without a fault.

    Parameters
    ----------
    path
        File that a `Recorder` has written.
    tree
        Tree in which it did.

    Attributes
    ----------
    seconds
        Time of each test, s.
    failing
        Tests that fail here without a fault: they are left out.
    """

    def __init__(self, path: Path, tree: Path) -> None:
        kept = json.loads(path.read_text())
        self.seconds: dict[str, float] = kept["seconds"]
        self.failing: list[str] = kept["failing"]
        self._tree = tree
        self._lines = path.with_suffix(".lines")

    def select(self, mutant: Mutant) -> list[str]:
        """Return the tests that run the line of a fault, those of quick files first.

        They are all tests if nobody knows: of kernels, which are compiled; of what runs when a
        module is imported, or once for all calls; of tests that start processes.
        """
        lines = lines_of_function(Source((self._tree / mutant.file).read_text()), mutant.edit.line)
        if not self._lines.exists() or mutant.file.startswith("kernels/") or not lines:
            return self._in_order(mutant, list(self.seconds))
        data = importlib.import_module("coverage").CoverageData(str(self._lines))
        data.read()
        contexts = data.contexts_by_lineno(mutant.file)
        hits = {context for line in lines for context in contexts.get(line, ())}
        shared = {hit.split("::")[0] for hit in hits if hit.endswith(f"|{SHARED}")}
        return self._in_order(
            mutant,
            [test for test in self.seconds if test in hits or test.split("::")[0] in shared],
        )

    def _in_order(self, mutant: Mutant, tests: list[str]) -> list[str]:
        """Sort by file: first those that are named after the fault's, then quick ones."""
        stem = Path(mutant.file).stem
        files: dict[str, float] = {}
        for test in tests:
            file = test.split("::")[0]
            files[file] = files.get(file, 0.0) + self.seconds[test]
        order = sorted(files, key=lambda file: (stem not in file, files[file]))
        return sorted(tests, key=lambda test: order.index(test.split("::")[0]))


class Baselines:
    """Baselines of lists of tests, measured when they are asked for and kept in a folder.

    Parameters
    ----------
    folder
        The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def of(self, lane: Lane, tests: tuple[str, ...]) -> Baseline:
        """Return the baseline of a list; runs the list if its tests have changed since."""
        path = self._folder / f"{digest_of_tests(lane.tree, tests)}.json"
        if not path.exists():
            _measure(lane, tests, path)
        return Baseline(path, lane.tree)


def lines_of_function(source: Source, line: int) -> range:
    """Return the lines of the statement that begins before or on a line of a function.

    Of a statement with a body they are those before the body. They are none outside a function, in
    one whose results are kept for later calls, and in one that is compiled.
    """
    inside = [node for node in ast.walk(source.tree) if _spans(node, line)]
    functions = [n for n in inside if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    decorators = " ".join(ast.unparse(one) for f in functions for one in f.decorator_list)
    if not functions or any(word in decorators for word in ("cache", "kernel", "jit")):
        return range(0)
    statement = max((n for n in inside if isinstance(n, ast.stmt)), key=lambda n: n.lineno)
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return range(0)
    end = min((n.lineno - 1 for n in _body(statement)), default=statement.end_lineno or line)
    return range(statement.lineno, max(end, line) + 1)


def _spans(node: ast.AST, line: int) -> bool:
    return getattr(node, "lineno", line + 1) <= line <= getattr(node, "end_lineno", 0)


def _body(statement: ast.stmt) -> Iterator[ast.stmt]:
    for name in ("body", "orelse", "finalbody"):
        yield from getattr(statement, name, [])


def _measure(lane: Lane, tests: tuple[str, ...], path: Path) -> None:
    """Run a list, and once more what fails: it may not fail where the kernels are compiled."""
    lines = not any(test.startswith("tests/integration") for test in tests)
    run = lane.pytest([*tests], _LIMIT_S, record=path, lines=lines)
    if run.status not in (0, 1):
        raise SystemExit(f"the tests {', '.join(tests)} do not run:\n{run.output[-2000:]}")
    if run.failed:
        again = lane.pytest(run.failed, _LIMIT_S)
        kept = json.loads(path.read_text()) | {"failing": again.failed}
        path.write_text(json.dumps(kept, indent=1))
        for name in again.failed:
            sys.stderr.write(f"fails without a fault, and is left out: {name}\n")
