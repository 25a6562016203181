"""Output files of a run: recording, report and quarantine, claimed before the run begins.

A run creates its recording as an empty file that must not exist yet, in one step of the file
system. So two daemons that write into one folder never have the same run number, even if they count
in different state folders.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.output_files import (
    CreatedFile,
    IsOurs,
    create_file,
    create_new_file,
    require_replaceable,
    set_aside,
)
from sluice.pipeline.recording import await_writer, is_recording
from sluice.pipeline.sinks.base import Sink, WritesRecording

from .quarantine_file import DESCRIPTION as QUARANTINE
from .quarantine_file import is_quarantine
from .run_numbers import UNNUMBERED, RunNumbers, expand_run_number

#: Keys that the report of every run has.
_REPORT_KEYS = {"run", "graph", "events", "closed"}
#: Largest file that may be a report, bytes.
_MAX_REPORT_BYTES = 1 << 26


class Output(NamedTuple):
    """One output file: path, description for messages, and test of an existing file."""

    path: Path
    what: str
    is_ours: IsOurs


class RunOutputs(Struct, frozen=True, kw_only=True):
    """Output files of a run, which depend on its number.

    Attributes
    ----------
    sink
        Sink of the run; it has files only if it writes a recording.
    report, quarantine
        Paths of report and quarantine, with ``{run}`` for the run number; None without.
    force
        Whether earlier outputs are replaced.
    """

    sink: Sink | None
    report: Path | None
    quarantine: Path | None
    force: bool

    def of_run(self, run: int) -> list[Output]:
        """Return the outputs of a run: first the recording, if it has one."""
        return [*self.of_sink(run), *self._beside(run)]

    def is_taken(self, run: int) -> bool:
        """Whether an output whose path depends on the run number exists for this number."""
        fixed = self._fixed_paths()
        return any(
            os.path.lexists(output.path) for output in self.of_run(run) if output.path not in fixed
        )

    def require_replaceable(self, run: int, only: Collection[Path] | None = None) -> None:
        """Raise ConfigError if an output of a run exists and may not be replaced.

        Parameters
        ----------
        run
            Run number.
        only
            Paths of the outputs to check; None for all.
        """
        for output in self.of_run(run):
            if only is None or output.path in only:
                require_replaceable(*output, force=self.force)

    def claim(self, numbers: RunNumbers, wanted: int | None) -> tuple[int, list[CreatedFile]]:
        """Allocate a run number and create the recording; return both.

        What the recording replaces is kept until `CreatedFile.keep`.

        Parameters
        ----------
        numbers
            Run numbers of the state folder.
        wanted
            Run number; None for the next one that has no outputs yet.

        Raises
        ------
        ConfigError
            If the number was used, or an output exists and may not be replaced.
        """
        if wanted is not None:
            self.require_replaceable(wanted)
            run = numbers.allocate(wanted)
            return run, self._create(run)
        fixed = self._fixed_paths()
        self.require_replaceable(UNNUMBERED, only=fixed)
        while True:
            run = numbers.allocate(None, self.is_taken)
            files = self.of_sink(run)
            if not files or files[0].path in fixed:
                return run, self._create(run)
            with suppress(FileExistsError):  # another run claims this number in the same folder
                create_new_file(files[0].path)
                return run, [CreatedFile(files[0].path)]

    def _fixed_paths(self) -> set[Path]:
        """Return the paths that do not depend on the run number."""
        one, other = ({output.path for output in self.of_run(run)} for run in (1, 2))
        return one & other

    def _create(self, run: int) -> list[CreatedFile]:
        files = self.of_sink(run)
        try:
            created = create_file(*files[0], force=self.force) if files else None
        except FileExistsError as error:
            raise ConfigError(f"{files[0].path}: another run has begun to write there") from error
        # Further files are of the rotated recording that is replaced.
        further = [CreatedFile(file.path, set_aside(file.path)) for file in files[1:]]
        return further if created is None else [created, *further]

    def of_sink(self, run: int) -> list[Output]:
        """Return the files of the recording of a run; none if its sink writes no recording."""
        if not isinstance(self.sink, WritesRecording):
            return []
        return [Output(path, "a recording", _is_old_recording) for path in self.sink.files(run)]

    def _beside(self, run: int) -> Iterator[Output]:
        report = expand_run_number(self.report, run)
        if report is not None:
            yield Output(report, "a run report", is_report)
        refused = expand_run_number(self.quarantine, run)
        if refused is not None:
            yield Output(refused, QUARANTINE, is_quarantine)


def is_report(path: Path) -> bool:
    """Whether a file is the report of a run."""
    try:
        if path.stat().st_size > _MAX_REPORT_BYTES:
            return False
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.keys() >= _REPORT_KEYS


def _is_old_recording(path: Path) -> bool:
    """Whether a file is a recording that no process writes; ConfigError if one does."""
    if not is_recording(path):
        return False
    try:
        await_writer(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot replace: {error.strerror}") from error
    return True
