"""Results of the commands that make the figures of the docs, one JSON file each."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from sluice.benchmarks.conditions import benchmark_conditions
from sluice.exporters.evaluation.reference_data import folder as data_folder
from sluice.pipeline.core.errors import RunError

#: Command line of each result, after ``sluice``; all print JSON.
COMMANDS = {
    "evaluate-antihydrogen": "evaluate antihydrogen --json",
    "evaluate-cosmics": "evaluate cosmics --json",
    "evaluate-jets": "evaluate jets --json",
    "evaluate-wafers": "evaluate wafers --data CALQ_output.csv --json",
    "bench-latency": "bench latency --json",
}
#: Folder of the measured data in which a command runs, by result.
_FOLDERS = {"evaluate-wafers": "calq"}


def measure(name: str, sluice: Path, folder: Path) -> None:
    """Run the command of a result and write what it prints, with date and machine, to `folder`.

    Parameters
    ----------
    name
        A key of `COMMANDS`.
    sluice
        The command ``sluice``.
    folder
        Folder of the results.

    Raises
    ------
    RunError
        If the command fails.
    """
    date, conditions = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), benchmark_conditions()
    done = subprocess.run(
        [sluice, *COMMANDS[name].split()], capture_output=True, text=True, check=False,
        cwd=data_folder() / _FOLDERS[name] if name in _FOLDERS else None,
    )  # fmt: skip
    if done.returncode:
        raise RunError(f"sluice {COMMANDS[name]}: {done.stderr}")
    found = {
        "command": f"sluice {COMMANDS[name]}", "date": date, "machine": conditions,
        "result": json.loads(done.stdout),
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


def read(name: str, folder: Path) -> dict[str, Any]:
    """Return a stored result: ``command``, ``date``, ``machine`` and ``result``."""
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found
