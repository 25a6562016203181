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
#: Time to compile all kernels, s.
_COMPILE_S = 300.0
#: So often may a test fail by chance, as on a busy machine, before the list is given up.
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
    """Run one list; a test that failed must fail again, by itself."""
    left_out = set(baseline.failing)
    selected = baseline.select(mutant)
    own = _own_examples(lane.tree, mutant)
    verdict, seconds = Verdict("survived", "", 0.0), 0.0
    for _ in range(_CHANCES):
        tests = own + [test for test in selected if test not in left_out]
        if not tests:
            break
        run = _run_in_time(lane, tests, baseline, cache)
        seconds += run.seconds
        verdict = _verdict(run)
        if verdict.result != "found" or not verdict.test:
            break
        if _run_in_time(lane, [verdict.test], baseline, cache).status != 0:
            break
        sys.stderr.write(f"failed by chance: {verdict.test}\n")
        left_out.add(verdict.test)
    return Verdict(verdict.result, verdict.test, seconds)


def _run_in_time(lane: Lane, tests: list[str], baseline: Baseline, cache: Path | None) -> PytestRun:
    """Run tests; a run that takes too long is tried once more: the machine may have been busy."""
    known = [baseline.seconds[test] for test in tests if test in baseline.seconds]
    # Of kernels with a fault no machine code is there.
    extra_s = _EXTRA_S if cache is None else _COMPILE_S
    limit_s = _FACTOR * sum(known) + extra_s
    test_limit_s = _FACTOR * max(known, default=0.0) + extra_s
    arguments = ["-x", *tests, "--timeout", f"{test_limit_s:.0f}"]
    run = lane.pytest(arguments, limit_s, cache)
    return lane.pytest(arguments, 2 * limit_s, cache) if run.status == -1 else run


def _own_examples(tree: Path, mutant: Mutant) -> list[str]:
    """Return the mutated file if it has examples of its own, which are tests too."""
    return [mutant.file] if "\n    >>> " in (tree / mutant.file).read_text() else []


def _verdict(run: PytestRun) -> Verdict:
    names = {0: "survived", 1: "found", -1: "timed out"}
    result = names.get(run.status, "not imported")
    if result == "found" and "Timeout (>" in run.output:
        result = "timed out"
    return Verdict(result, run.failed[0] if run.failed else "", run.seconds)
