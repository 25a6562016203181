"""Resume point: the last commit of an interrupted run, read from its recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sluice.pipeline.core.errors import DataError
from sluice.pipeline.recording import (
    Info,
    Recording,
    ResumeOffset,
    find_files,
    find_resume_offset,
    wait_for_writer,
)

from .commit import CommitRecord, ModelSwapRecord, read_commit


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
    tail = find_resume_offset(files[-1], partial(_reaches, since, files[-1]))
    commits = _commits(tail, files[-1])
    for file in reversed(files[:-1]):
        if commits and commits[0].first <= since:
            break
        older = find_resume_offset(file, partial(_reaches, since, file))
        commits = _commits(older, file) + commits
    last = commits[-1].next if commits else 0
    if last < since:
        raise DataError(f"{files[-1]}: expected the batches up to {since}, got those up to {last}")
    found = [c for c in commits if c.next > since] or commits[-1:]
    _require_all(found, since, files[-1])
    return tail, found


def _reaches(since: int, path: Path, commit: bytes) -> bool:
    return read_commit(commit, str(path)).first <= since


def _commits(tail: ResumeOffset, path: Path) -> list[CommitRecord]:
    return [read_commit(text, str(path)) for text in tail.commits]


def _require_all(commits: Sequence[CommitRecord], since: int, path: Path) -> None:
    """Raise DataError if commit records of batches from `since` on are missing, as after damage."""
    expected = since
    for commit in commits:
        if commit.first > expected:
            raise DataError(
                f"{path}: expected the commit record of batch {expected}, got that of "
                f"batch {commit.first}",
                hint="`sluice inspect` shows the damage; replay the input into another file",
            )
        expected = commit.next


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


def read_resume_point(path: Path) -> ResumePoint:
    """Return the resume point of a recorded run; waits until no process writes the recording.

    A run that was killed after its end-of-run record may lack its report, so it is resumed too.

    Parameters
    ----------
    path
        Path of the recording: of its first file.

    Raises
    ------
    DataError
        If there is no recording, or a file of it is missing.
    """
    try:
        wait_for_writer(path)
        files = find_files(path)
    except OSError as error:
        raise DataError(f"{path}: cannot open: {error.strerror}") from error
    tail = find_resume_offset(files[-1])
    commits = _commits(tail, files[-1])
    for file in reversed(files[:-1]):
        commits = commits or _commits(find_resume_offset(file), file)
    last = commits[-1] if commits else CommitRecord()
    return ResumePoint(tail.begin_of_run, last, tuple(_swaps(path)) if last.epoch else ())


def _swaps(path: Path) -> Iterator[ModelSwapRecord]:
    """Yield the swaps of a run, in order."""
    recording = Recording(path)
    try:
        for _ in recording.batches(empty=True):
            if recording.commit is not None:
                yield from read_commit(recording.commit, str(recording.file)).swaps
    finally:
        recording.close()
