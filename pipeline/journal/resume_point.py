"""Where a run stands: read back from the commit records of a recording that has not ended."""

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

#: Later than any batch: of the commit records only the last ones matter.
_LAST = 2**63


def find_commits(files: Sequence[Path], since: int) -> tuple[ResumeOffset, list[CommitRecord]]:
    """Return where a recording ends, and its commit records that settle batches from `since` on.

    The last one is always there, if any is.

    Parameters
    ----------
    files
        Of the recording, in order; of those before the last only as many are read as it takes.
    since
        Number of a batch.

    Raises
    ------
    DataError
        If the last file cannot be gone on with, or batches before `since` are lacking.
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
    most = 256
    while True:
        tail = find_resume_offset(path, most)
        commits = [read_commit(text, str(path)) for text in tail.commits]
        if tail.complete or (commits and commits[0].next <= since):
            return tail, commits
        most *= 4


class ResumePoint(NamedTuple):
    """Where a run stood: begin-of-run record, last commit record, and the swaps up to there."""

    bor: Info
    commit: CommitRecord
    swaps: tuple[ModelSwapRecord, ...] = ()


def read_resume_point(path: Path, *, parts: bool = False) -> ResumePoint:
    """Return where the run stood that a recording is of; whoever writes it still is waited for.

    Parameters
    ----------
    path
        Of the recording.
    parts
        Whether it is in parts; then `path` is its name without a number.

    Raises
    ------
    DataError
        If there is nothing to go on with, or the run has ended.
    """
    try:
        files = require_complete(wait_for_writer(path), path) if parts else [path]
        if not files:
            raise DataError(f"{path}: cannot open: expected {part_path(path, 1).name}, got no part")
        await_writer(files[-1])
    except OSError as error:
        raise DataError(f"{path}: cannot open: {error.strerror}") from error
    tail, commits = _commits(files[-1], _LAST)
    for file in reversed(files[:-1]):
        commits = commits or _commits(file, _LAST)[1]
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
