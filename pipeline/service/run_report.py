"""The report of a run: what it holds at the end, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.output_files import write_whole
from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.run.run_numbers import expand_run_number


def make_report(context: RunContext, written: dict[str, Any]) -> dict[str, Any]:
    """Return the report of a run that has ended.

    Parameters
    ----------
    context
        Context of the run.
    written
        What the sink wrote; empty if that is not known.
    """
    control, source = context.control, context.source
    report = context.accounting.snapshot().report()
    whole = not control.input_unread
    return report | {
        "state": control.state.value, "error": control.cause, "hint": control.hint,
        "input": {"expected": source.expected, "whole": whole}, "output": written,
        "damage": source.corruption,
    }  # fmt: skip


def write_report(report: dict[str, Any], template: Path | None, *, replace: bool) -> None:
    """Write the report of a run to its file, if it has one.

    Parameters
    ----------
    report
        The report.
    template
        Path of the file, with ``{run}`` for the run number; None for no file.
    replace
        Whether to replace the report of an earlier run, or of an earlier attempt.

    Raises
    ------
    RunError
        If the file cannot be written.
    """
    path = expand_run_number(template, report["run"])
    if path is None:
        return
    content = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    try:
        write_whole(path, content, replace=replace)
    except OSError as error:
        raise RunError(f"report: cannot write {path}: {error.strerror or error}") from error
