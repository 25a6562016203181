"""A recorded run, batch by batch as it was processed: batch records and kept events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import Array
from sluice.pipeline.recording import Recording

from .batch_record import unpack
from .commit import CommitRecord, read_commit


class RecordedRun:
    """Reads the recording of a run with its journal.

    Parameters
    ----------
    path
        Recording that the sink of the run wrote.

    Attributes
    ----------
    bor, schema
        Begin-of-run record, and columns of the kept events.
    keeps_all
        Whether all events were kept; else the accepted ones.

    Raises
    ------
    DataError
        If the file is not the recording of a run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        reader = Recording(path)
        reader.close()
        self.bor, self.schema = reader.bor, reader.schema
        try:
            sink = self.bor["config"]["sink"]["options"]
            self.keeps_all = sink.get("keep", "accepted") == "all"
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{path}: expected the recording of a run, its begin-of-run record names no sink",
                hint="`sluice run` and `sluice replay` write such recordings",
            ) from error

    def batch_records(self) -> Array:
        """Return the records of all batches, in order, of dtype `BATCH_RECORD_DTYPE`."""
        found = [_records(commit) for _, commit in self._groups()]
        if not found:
            raise DataError(
                f"{self.path}: expected the records of its batches, found none",
                hint="record the run again: recordings before 0.2 do not keep it",
            )
        return np.concatenate(found)

    def batches(self) -> Iterator[tuple[np.void, EventBatch]]:
        """Yield the record of each batch, and its kept events."""
        for group, commit in self._groups():
            records = _records(commit)
            if len(records) != len(commit.kept) or sum(commit.kept) != group.events:
                raise DataError(
                    f"{self.path}: batches {commit.first} to {commit.next - 1}: expected "
                    f"{sum(commit.kept)} kept events by the commit record, got {group.events}"
                )
            stops = np.cumsum(commit.kept).tolist()
            for record, start, stop in zip(records, [0, *stops], stops, strict=False):
                yield record, group.slice(start, stop)

    def _groups(self) -> Iterator[tuple[EventBatch, CommitRecord]]:
        """Yield each record batch of the recording with its commit record."""
        reader = Recording(self.path)
        try:
            for group in reader.batches(empty=True):
                if reader.commit is not None:
                    yield group, read_commit(reader.commit, str(self.path))
        finally:
            reader.close()


def _records(commit: CommitRecord) -> Array:
    return unpack(b"".join(summary.batch_record for summary in commit.unpacked()))
