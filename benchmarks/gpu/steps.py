"""Steps of the check: commands, each with a limit of its own, that write JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: Characters of a step's output to keep, from its end.
_TAIL = 4000
_KILL_S = 5.0


@dataclass(frozen=True)
class Step:
    """A command of the check.

    Attributes
    ----------
    name
        Name in the report.
    command
        Program and arguments; ``{out}`` stands for the file to write JSON to.
    limit_s
        Time limit, s; then the command and its children are killed.
    environment
        Environment variables to add.
    """

    name: str
    command: tuple[str, ...]
    limit_s: float
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Result of a step.

    Attributes
    ----------
    passed
        Whether the command exited with 0 within its time limit.
    why
        Reason why the step has not passed; empty if it has.
    seconds
        Duration, s.
    found
        JSON that it wrote; None if it wrote none.
    said
        End of its output.
    """

    name: str
    passed: bool
    why: str
    seconds: float
    found: Any
    said: str


def run_all(
    groups: Sequence[Sequence[Step]], limit_s: float, report: Callable[[str], None]
) -> dict[str, Any]:
    """Run groups of steps one after the other, the steps of a group beside each other.

    Parameters
    ----------
    groups
        The steps.
    limit_s
        Time limit of all steps, s; a step not begun by then is not run and counts as failed.
    report
        Called with a message at the beginning and the end of each step.

    Returns
    -------
    dict
        ``passed``, ``seconds``, and ``steps``: an `Outcome` each.
    """
    began = time.monotonic()
    outcomes: list[Outcome] = []
    for group in groups:
        left = limit_s - (time.monotonic() - began)
        with ThreadPoolExecutor(len(group)) as pool:
            outcomes += pool.map(lambda step, left=left: _run(step, left, report), group)
    return {
        "passed": all(outcome.passed for outcome in outcomes),
        "seconds": time.monotonic() - began,
        "steps": [asdict(outcome) for outcome in outcomes],
    }


def _run(step: Step, left_s: float, report: Callable[[str], None]) -> Outcome:
    limit_s = min(step.limit_s, left_s)
    if limit_s <= 0:
        report(f"{step.name}: not run")
        return Outcome(step.name, False, "not run: the time was up", 0.0, None, "")
    report(f"{step.name}: at most {limit_s:.0f} s")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sluice-gpu-") as folder:
        out = Path(folder) / "out.json"
        said = Path(folder) / "said"
        why = _spawn(step, out, said, limit_s)
        found, unread = _read(out)
        why = why or unread
        text = said.read_text(errors="replace")[-_TAIL:] if said.exists() else ""
    seconds = time.monotonic() - began
    report(f"{step.name}: {why or 'passed'}, {seconds:.1f} s")
    return Outcome(step.name, not why, why, seconds, found, text)


def _spawn(step: Step, out: Path, said: Path, limit_s: float) -> str:
    """Run a step; return why it has not passed, empty if it has."""
    command = [word.replace("{out}", str(out)) for word in step.command]
    with said.open("wb") as file:
        try:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env={**os.environ, **step.environment}, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return f"cannot be started: {error}"
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    if code is None:
        return f"not done after {limit_s:.0f} s"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"exit code {code}" if code else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the processes that a step has left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait(_KILL_S)


def _read(out: Path) -> tuple[Any, str]:
    """Return the JSON that a step wrote, and the reason why it is unusable, else empty."""
    if not out.exists():
        return None, ""
    try:
        return json.loads(out.read_text()), ""
    except (ValueError, OSError) as error:
        return None, f"its JSON cannot be read: {error}"
