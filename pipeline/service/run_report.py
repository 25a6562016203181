"""The report of a run: what it holds at the end, its file, and the descriptors for that."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.output_files import write_whole
from sluice.pipeline.engine.base import RunContext, SinkReport
from sluice.pipeline.run.cross_check import OtherCounts, find_differences
from sluice.pipeline.run.run_numbers import expand_run_number
from sluice.pipeline.run.state import State
from sluice.pipeline.sinks.base import WritesRecording

#: For the files of recording, report and quarantine, and for what ends the processes of a run.
_DESCRIPTORS = 16
#: Longest wait for a descriptor for the report, and interval between two tries, s.
_DESCRIPTOR_TIMEOUT_S, _DESCRIPTOR_RETRY_S = 5.0, 0.1
#: Errors of a process or a host that has no descriptors left.
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


class DescriptorReserve:
    """Descriptors for the end of a run, which needs some whatever has taken the others."""

    def __init__(self) -> None:
        self._held: list[int] = []
        with suppress(OSError):  # there are fewer: then these few are kept
            for _ in range(_DESCRIPTORS):
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def release(self, *, half: bool = False) -> None:
        """Close all or half of the descriptors, so that this process can open as many files."""
        left = _DESCRIPTORS // 2 if half else 0
        while len(self._held) > left:
            os.close(self._held.pop())


def check_account(context: RunContext, duration_ns: int, sink: SinkReport) -> None:
    """End the account of a run; if it is not right the run fails, and its report is not closed.

    Parameters
    ----------
    context
        Context of the run.
    duration_ns
        Time from the start of the engine's main loop to its end, ns.
    sink
        What the sink has counted.
    """
    accounting, control = context.accounting, context.control
    others = OtherCounts(duration_s=duration_ns * 1e-9)
    if control.state is not State.ERROR:  # else the sink may have committed what was given up
        others = _count_by_others(context, duration_ns * 1e-9, sink)
    now = accounting.snapshot()
    differences = find_differences(now, others)
    accounting.end(agrees=not differences)
    if not now.closed:
        control.fail(f"the ledger does not close: {now.events}")
    elif differences:
        control.fail(f"the account of the run is not right: {'; '.join(differences)}")


def _count_by_others(context: RunContext, duration_s: float, sink: SinkReport) -> OtherCounts:
    source, writes = context.source, isinstance(context.sink, WritesRecording)
    whole = not context.control.input_unread and source.corruption is None
    return OtherCounts(
        duration_s=duration_s,
        input_events=source.expected if whole else None,
        committed=sink.committed,
        recorded=sink.output.get("events") if writes and context.sink.columns else None,
        kept=context.sink.keep if writes else None,
    )


def make_report(context: RunContext, output: dict[str, Any]) -> dict[str, Any]:
    """Return the report of a run that has ended.

    Parameters
    ----------
    context
        Context of the run.
    output
        What the sink wrote; empty if that is not known.
    """
    control, source = context.control, context.source
    context.accounting.end()
    report = context.accounting.snapshot().report()
    whole = not control.input_unread
    return report | {
        "state": control.state.value, "error": control.cause, "hint": control.hint,
        "input": {"expected": source.expected, "whole": whole}, "output": output,
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
        _write_when_possible(path, content, replace=replace)
    except OSError as error:
        raise RunError(f"report: cannot write {path}: {error.strerror or error}") from error


def _write_when_possible(path: Path, content: bytes, *, replace: bool) -> None:
    """Write a file; wait for a descriptor, as ZeroMQ closes its connections in the background."""
    deadline = time.monotonic() + _DESCRIPTOR_TIMEOUT_S
    while True:
        try:
            write_whole(path, content, replace=replace)
            return
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR or time.monotonic() > deadline:
                raise
        time.sleep(_DESCRIPTOR_RETRY_S)
