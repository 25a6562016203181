"""Run schedules: ``python -m tests.simulation --schedules 1000000 --first 0``."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from .schedule import simulate


def main() -> int:
    """Run schedules one after the other; return 1 at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=1000, help="number of schedules")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    options = parser.parse_args()
    started_s = time.process_time()
    for seed in range(options.first, options.first + options.schedules):
        try:
            simulate(seed)
        except Exception:
            traceback.print_exc()
            sys.stderr.write(f"seed {seed} fails\n")
            return 1
    seconds = time.process_time() - started_s
    sys.stdout.write(f"{options.schedules} schedules in {seconds:.1f} s of processor time\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
