"""Plant faults and report which ones no test finds: ``python -m tests.mutants --area menu``."""

from __future__ import annotations

import argparse
import json
import queue
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .areas import Area, read_areas
from .baseline import Baselines
from .lane import Lane
from .results import EVERYTHING, Results, mark_equivalent, read_equivalent, summary, table
from .sample import Mutant, draw
from .trial import try_mutant

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "mutants"


@dataclass(frozen=True)
class Job:
    """A fault that is to be tried with some lists of tests."""

    results: Results
    mutant: Mutant
    lists: list[tuple[str, ...]]


def main() -> int:
    """Try the faults, print the report, and return 0."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the lanes end with this process
    options = _parse()
    FOLDER.mkdir(parents=True, exist_ok=True)
    drawn = {
        area: draw(ROOT, area.files(ROOT), options.count, options.seed)
        for area in read_areas(options.area)
    }
    results = {area: Results(FOLDER, area, ROOT) for area in drawn}
    jobs: queue.SimpleQueue[list[Job]] = queue.SimpleQueue()
    for area, mutants in drawn.items():
        left = [(mutant, results[area].left(mutant, _lists(area, options))) for mutant in mutants]
        if found := [Job(results[area], mutant, lists) for mutant, lists in left if lists]:
            jobs.put(found)
    if not jobs.empty():
        with ThreadPoolExecutor(options.lanes) as pool:
            lanes = [pool.submit(_work, number, jobs) for number in range(options.lanes)]
        for lane in lanes:
            lane.result()
    _report(drawn, results)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--area", default="", help="parts of names of areas, by commas; else all")
    parser.add_argument("--count", type=int, default=25, help="faults of each area")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of faults")
    parser.add_argument("--lanes", type=int, default=1, help="areas tried at the same time")
    tests = parser.add_mutually_exclusive_group()
    tests.add_argument("--narrow", action="store_true", help="only the first list of tests")
    tests.add_argument("--all", action="store_true", help="survivors: all tests but the long ones")
    return parser.parse_args()


def _lists(area: Area, options: argparse.Namespace) -> list[tuple[str, ...]]:
    lists = list(area.tests[:1] if options.narrow else area.tests)
    return [*lists, EVERYTHING] if options.all else lists


def _work(number: int, jobs: queue.SimpleQueue[list[Job]]) -> None:
    """Try the faults of one area after another in a lane until none is left."""
    baselines = Baselines(FOLDER / "baselines")
    with Lane(ROOT, FOLDER / f"lane-{number}") as lane:
        while True:
            try:
                area = jobs.get_nowait()
            except queue.Empty:
                return
            for job in area:
                verdict = try_mutant(lane, job.mutant, job.lists, baselines)
                _print(job.results.add(job.mutant, verdict, job.lists))


def _print(entry: dict[str, Any]) -> None:
    sys.stderr.write(
        f"{entry['seconds']:6.1f} s  {entry['result']:<12} {entry['file']}:{entry['line']} "
        f"({entry['operator']}) {entry['test']}\n"
    )


def _report(drawn: dict[Area, list[Mutant]], results: dict[Area, Results]) -> None:
    equivalent = read_equivalent()
    summaries: list[dict[str, Any]] = []
    for area, mutants in drawn.items():
        tried = [entry for mutant in mutants if (entry := results[area].known(mutant))]
        marked = [mark_equivalent(entry, equivalent) for entry in tried]
        summaries.append(summary(area.name, marked))
    (FOLDER / "report.json").write_text(json.dumps(summaries, indent=1) + "\n")
    sys.stdout.write(table(summaries))


if __name__ == "__main__":
    sys.exit(main())
