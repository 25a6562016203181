"""One fault is planted, and the tests look for it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from .baseline import Baseline, Baselines
from .lane import Lane, PytestRun
from .sample import Mutant

#: A run with a fault may take so many times as long as without, and so many seconds more.
_FACTOR, _EXTRA_S = 3.0, 20.0
#: So often may a test of processes fail by chance before the list is given up.
_CHANCES = 3


@dataclass(frozen=True)
class Verdict:
    """What came of one fault.

    Parameters
    ----------
    result
        ``found``; ``timed out``; ``not imported``, where no test could begin; or ``survived``.
    test
        The test that found it, or nothing.
    seconds
        How long the tests ran.
    """

    result: str
    test: str
    seconds: float


def try_mutant(
    lane: Lane, mutant: Mutant, lists: list[tuple[str, ...]], baselines: Baselines
) -> Verdict:
    """Run lists of tests against a fault, one after the other, until one finds it."""
    known = [baselines.of(lane, tests) for tests in lists]
    verdict, seconds = Verdict("survived", "", 0.0), 0.0
    with lane.planted(mutant) as cache:
        for baseline in known:
            verdict = _try_list(lane, mutant, baseline, cache)
            seconds += verdict.seconds
            if verdict.result != "survived":
                break
    return Verdict(verdict.result, verdict.test, round(seconds, 1))


def _try_list(lane: Lane, mutant: Mutant, baseline: Baseline, cache: Path | None) -> Verdict:
    """Run one list; an integration test that failed must fail again, by itself."""
    left_out = list(baseline.failing)
    seconds = 0.0
    for _ in range(_CHANCES):
        arguments = ["-x", *_own_examples(lane.tree, mutant), *baseline.in_order(mutant.file)]
        run = _run_in_time(lane, arguments, left_out, baseline, cache)
        seconds += run.seconds
        if run.status != 1 or not run.failed or not run.failed[0].startswith("tests/integration"):
            break
        if _fails_again(lane, run.failed[0], baseline, cache):
            break
        sys.stderr.write(f"failed by chance: {run.failed[0]}\n")
        left_out.append(run.failed[0])
    verdict = _verdict(run)
    return Verdict(verdict.result, verdict.test, seconds)


def _run_in_time(
    lane: Lane, arguments: list[str], left_out: list[str], baseline: Baseline, cache: Path | None
) -> PytestRun:
    """Run tests; a run that takes too long is tried once more: the machine may have been busy."""
    limit_s = _FACTOR * baseline.seconds + _EXTRA_S
    test_limit_s = _FACTOR * baseline.slowest_s + _EXTRA_S
    for name in left_out:
        arguments += ["--deselect", name]
    arguments += ["--timeout", f"{test_limit_s:.0f}"]
    run = lane.pytest(arguments, limit_s, cache)
    return lane.pytest(arguments, 2 * limit_s, cache) if run.status == -1 else run


def _fails_again(lane: Lane, test: str, baseline: Baseline, cache: Path | None) -> bool:
    return _run_in_time(lane, [test], [], baseline, cache).status != 0


def _own_examples(tree: Path, mutant: Mutant) -> list[str]:
    """Return the mutated file if it has examples of its own, which are tests too."""
    return [mutant.file] if "\n    >>> " in (tree / mutant.file).read_text() else []


def _verdict(run: PytestRun) -> Verdict:
    names = {0: "survived", 1: "found", -1: "timed out"}
    result = names.get(run.status, "not imported")
    if result == "found" and "Timeout (>" in run.output:
        result = "timed out"
    return Verdict(result, run.failed[0] if run.failed else "", run.seconds)
