"""Run a soak: ``python -m tests.soak --seconds 120 --seed 1 --report soak.json``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .faults import FAULTS
from .growth import Watch
from .schedule import Fault, make_schedule
from .stand import Stand
from .truth import live_differences, replay_differences
from .verdict import evaluate

_READY_S = 300.0
_END_S = 120.0


def main() -> int:
    """Run, print the report, and return 0 if every check is good."""
    options = _parse()
    kinds = tuple(options.faults.split(",")) if options.faults else tuple(FAULTS)
    plan = make_schedule(options.seed, options.seconds, kinds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends the run too
    with tempfile.TemporaryDirectory(prefix="sluice-soak-") as folder:
        report = _soak(Path(folder), options, plan)
    text = json.dumps(report, indent=2)
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(text + "\n")
    sys.stdout.write(text + "\n")
    return 0 if report["passed"] else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0, help="how long")
    parser.add_argument("--seed", type=int, default=1, help="of the faults")
    parser.add_argument("--rate", type=float, default=2000.0, help="events a second, bursts aside")
    parser.add_argument("--faults", help=f"kinds, joined by commas; all: {','.join(FAULTS)}")
    parser.add_argument("--report", type=Path, help="write the report there too")
    return parser.parse_args()


def _soak(folder: Path, options: argparse.Namespace, plan: list[Fault]) -> dict[str, Any]:
    stand = Stand(folder, options.rate, options.seconds)
    watch = None
    try:
        _wait_ready(stand)
        stand.send(options.rate, options.seconds)
        watch = Watch(stand, period_s=max(0.5, options.seconds / 600))
        injected = _inject(stand, plan, options.seconds)
        stand.collect(_END_S)
        watch.close()
        stand.run.send_signal(signal.SIGTERM)
        code = stand.run.wait(_END_S)
        stand.replay.finish(_END_S)
        outcome, replayed = (
            json.loads(path.read_text()) for path in (stand.report, stand.replay.report)
        )
        growth = watch.report()
        wrong = {"live": live_differences(stand, outcome), "replay": replay_differences(stand)}
        checks = evaluate(stand, outcome, growth, injected, replayed, wrong)
    finally:
        if watch is not None:
            watch.close()
        stand.end()
    return {
        "seed": options.seed, "seconds": options.seconds, "rate_hz": options.rate,
        "load": os.getloadavg()[0], "exit_code": code, "injected": injected,
        "events": outcome["events"], "latency_s": outcome["latency_s"],
        "output": outcome["output"], "restarts": outcome["restarts"],
        "protocol_errors": outcome["protocol_errors"], "swaps": len(outcome["swaps"]),
        "ladder": outcome.get("rungs"), "replay": replayed["events"],
        "growth": growth, "checks": checks,
        "passed": code == 0 and all(check["good"] for check in checks.values()),
    }  # fmt: skip


def _wait_ready(stand: Stand) -> None:
    deadline = time.monotonic() + _READY_S
    while not stand.ready():
        if time.monotonic() > deadline or not stand.run.is_running():
            raise RuntimeError(f"the run is not ready after {_READY_S:g} s")
        time.sleep(0.1)


def _inject(stand: Stand, plan: list[Fault], seconds: float) -> list[dict[str, Any]]:
    """Inject the faults at their times; return what was done and when."""
    begun = time.monotonic()
    injected = []
    for fault in plan:
        time.sleep(max(0.0, begun + fault.at_s - time.monotonic()))
        at = round(time.monotonic() - begun, 2)
        stand.keep_remote_worker()
        what = FAULTS[fault.kind](stand, fault.detail)
        injected.append({"planned_s": fault.at_s, "at_s": at, "fault": fault.kind,
                         **fault.detail, **what})  # fmt: skip
        sys.stderr.write(f"{at:8.1f} s  {fault.kind}  {fault.detail} {what}\n")
    time.sleep(max(0.0, begun + seconds - time.monotonic()))
    return injected


if __name__ == "__main__":
    sys.exit(main())
