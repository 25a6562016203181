"""A million wafers processed live, then the same batches again: the decisions must be the same.

``python benchmarks/same_batches.py`` simulates them, sends them through the graph `hgcal` at a set
rate with two workers, so that batches vary in size, and replays the recorded batches inline. It
prints what was compared as JSON; the exit code is that of the replay, 0 where nothing differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sluice.pipeline.journal.recorded_run import RecordedRun

SLUICE = str(Path(sys.executable).with_name("sluice"))


def main() -> int:
    """Simulate, run, replay, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=50_000, help="events a second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        wafers, run = folder / "wafers.arrows", folder / "run.arrows"
        say(folder, "simulate", "wafers", "--events", options.events, "--seed", options.seed,
            "--out", wafers)  # fmt: skip
        graph = ("replay", wafers, "--graph", "hgcal", "--json")
        code, live = say(folder, *graph, "--workers", 2, "--rate", options.rate, "--out", run)
        if code:
            return code
        code, again = say(folder, *graph, "--engine", "inline", "--same-batches", run,
                          "--compare", "score")  # fmt: skip
        sizes = RecordedRun(run).batch_records()["events"]
        kept = run.stat().st_size
    result = {
        "events": live["events"],
        "latency_s": live["latency_s"],
        "recording_bytes": kept,
        "batches": {
            "number": len(sizes),
            "smallest": int(sizes.min()),
            "median": float(np.median(sizes)),
            "largest": int(sizes.max()),
            "sizes": len(np.unique(sizes)),
        },
        "replay_rate_hz": again["rate_hz"],
        "comparison": again["output"].get("comparison"),
    }
    print(json.dumps(result, indent=2))
    return code


def say(folder: Path, *arguments: object) -> tuple[int, Any]:
    """Run a ``sluice`` command; return its exit code and the JSON that it printed."""
    done = subprocess.run(
        [SLUICE, *map(str, arguments)], cwd=folder, stdout=subprocess.PIPE, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout) if done.stdout.startswith("{") else None


if __name__ == "__main__":
    sys.exit(main())
