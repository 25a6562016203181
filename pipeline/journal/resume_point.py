"""Resume point: the last commit of an interrupted run, read from its recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from sluice.pipeline.core.errors import DataError
from sluice.pipeline.recording import (
    Info,
    Recording,
    ResumeOffset,
    await_writer,
    find_resume_offset,
    part_path,
    require_complete,
    wait_for_writer,
)

from .commit import CommitRecord, ModelSwapRecord, read_commit

#: Later than any batch, to read as few commit records as possible.
_AFTER_ALL = 2**63
#: Number of commit records to read first; four times as many until they are enough.
_COMMITS = 256


def find_commits(files: Sequence[Path], since: int) -> tuple[ResumeOffset, list[CommitRecord]]:
    """Return the end of a recording, and its commit records of the batches from `since` on.

    The last commit record is always among them, if the recording has any.

    Parameters
    ----------
    files
        Files of the recording, in order; read from the last one back as far as necessary.
    since
        Sequence number of a batch.

    Raises
    ------
    DataError
        If the last file cannot be continued, or batches before `since` are missing.
    """
    tail, commits = _commits(files[-1], since)
    for file in reversed(files[:-1]):
        if commits and commits[0].first <= since:
            break
        commits = _commits(file, since)[1] + commits
    last = commits[-1].next if commits else 0
    if last < since:
        raise DataError(f"{files[-1]}: expected the batches up to {since}, got those up to {last}")
    return tail, [c for c in commits if c.next > since] or commits[-1:]


def _commits(path: Path, since: int) -> tuple[ResumeOffset, list[CommitRecord]]:
    """Return the end of one file, and commit records from the end back to `since`."""
    max_batches = _COMMITS
    while True:
        tail = find_resume_offset(path, max_batches)
        commits = [read_commit(text, str(path)) for text in tail.commits]
        if tail.complete or (commits and commits[0].next <= since):
            return tail, commits
        max_batches *= 4


class ResumePoint(NamedTuple):
    """State of an interrupted run.

    Attributes
    ----------
    bor
        Begin-of-run record.
    commit
        Last commit record.
    swaps
        Model swaps up to the last commit.
    """

    bor: Info
    commit: CommitRecord
    swaps: tuple[ModelSwapRecord, ...] = ()


def read_resume_point(path: Path, *, rotated: bool = False) -> ResumePoint:
    """Return the resume point of a recorded run; waits until no process writes the recording.

    Parameters
    ----------
    path
        Path of the recording.
    rotated
        Whether the recording is rotated; `path` is then its name without a number.

    Raises
    ------
    DataError
        If there is no recording, or the run has ended.
    """
    try:
        files = require_complete(wait_for_writer(path), path) if rotated else [path]
        if not files:
            raise DataError(f"{path}: cannot open: expected {part_path(path, 1).name}, got no file")
        await_writer(files[-1])
    except OSError as error:
        raise DataError(f"{path}: cannot open: {error.strerror}") from error
    tail, commits = _commits(files[-1], _AFTER_ALL)
    for file in reversed(files[:-1]):
        commits = commits or _commits(file, _AFTER_ALL)[1]
    if tail.ended:
        raise DataError(
            f"{files[-1]}: cannot resume: the run has ended", "replay it into another file"
        )
    try:
        bor = msgspec.json.decode(tail.bor, type=Info)
    except msgspec.MsgspecError as error:
        raise DataError(f"{path}: begin-of-run record: not JSON: {error}") from error
    last = commits[-1] if commits else CommitRecord()
    return ResumePoint(bor, last, tuple(_swaps(path)) if last.epoch else ())


def _swaps(path: Path) -> Iterator[ModelSwapRecord]:
    """Yield the swaps of a run, in order."""
    recording = Recording(path)
    try:
        for _ in recording.batches(empty=True):
            if recording.commit is not None:
                yield from read_commit(recording.commit, str(recording.file)).swaps
    finally:
        recording.close()
