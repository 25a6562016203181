"""Quarantine: an Arrow file with samples of the refused input of a run, with reasons."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from sluice.pipeline.core.batch import EventBatch, Flag, Outcome
from sluice.pipeline.core.errors import ConfigError, shorten
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.sources.base import Rejected
from sluice.pipeline.transport.codec import Codec

from .quarantine_file import SCHEMA, QuarantineFile
from .quarantine_limits import QuarantineLimits

#: Reasons that are counted apart; later ones are counted as "other reasons".
MAX_REASONS = 100
_OTHER_REASONS = "other reasons"
#: Interval between two tries to write after a failed one, s.
RETRY_S = 5.0
#: Characters of a reason; the middle of a longer one is left out.
_REASON_CHARACTERS = 500
#: Bytes of a row beside its texts and its payload, about: it may be a record batch by itself.
_ROW_BYTES = 1024

_Row = tuple[object, ...]


class Quarantine:
    """Writes samples of refused input to an Arrow file, which is created at the first refusal.

    The column ``payload`` holds the raw line or message of input that is no event, and for an event
    its source columns as an encapsulated Arrow record batch of one row. `QuarantineLimits` decides
    which rows are written; the others are only counted. So are those that come while the file
    cannot be written: that never ends the run, and is tried again every few seconds.

    Parameters
    ----------
    path
        Path of the file; None to count reasons only.
    schema
        Source columns of quarantined events.
    force
        Whether an earlier quarantine there is replaced.

    Attributes
    ----------
    path
        Path of the file, or None.
    rows
        Number of rows written.
    rows_not_kept
        Number of rows that were not written, for the limits or for an error.
    reasons
        Number of events, or of pieces of input that are none, by reason.
    """

    def __init__(self, path: Path | None, schema: Schema, *, force: bool = False) -> None:
        self.path = path
        self.rows = self.rows_not_kept = 0
        self.reasons: dict[str, int] = {}
        self._codec = Codec(schema)
        self._file = None if path is None else QuarantineFile(path, force=force)
        self._limits = QuarantineLimits()
        self._retry_at_s = 0.0
        self._error: str | None = None

    def add_rejected(self, stage: str, rejected: Rejected) -> None:
        """Add input that is no event."""
        reason = self._count(rejected.reason, max(1, rejected.events))
        row = (None, Outcome.INVALID.name.lower(), stage, rejected.where, rejected.reason)
        self._write(reason, iter([(*row, rejected.payload)]), 1)

    def add_flagged(self, flag: Flag, batch: EventBatch) -> None:
        """Add the flagged events of a batch."""
        reason = self._count(flag.reason, len(flag.rows))
        self._write(reason, self._flagged_rows(flag, batch), len(flag.rows))

    def describe(self) -> dict[str, object]:
        """Return the report's ``quarantine``: path, rows, reasons, latest error of writing."""
        return {
            "path": str(self.path) if self.rows else None,
            "rows": self.rows,
            "rows_not_kept": self.rows_not_kept,
            "reasons": dict(self.reasons),
            "error": self._error,
        }

    def close(self) -> None:
        """End the file, if there is one."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._error = str(error)

    def _count(self, reason: str, events: int) -> str:
        """Count events of a reason; return the name under which it is counted."""
        reason = shorten(reason, _REASON_CHARACTERS)
        known = reason in self.reasons or len(self.reasons) < MAX_REASONS
        name = reason if known else _OTHER_REASONS
        self.reasons[name] = self.reasons.get(name, 0) + events
        return name

    def _flagged_rows(self, flag: Flag, batch: EventBatch) -> Iterator[_Row]:
        outcome = Outcome(flag.outcome).name.lower()
        for row in flag.rows:
            event = batch.slice(row, row + 1)
            payload = self._codec.pack(event).to_pybytes()
            where = f"batch {batch.seq}, row {row}"
            event_id = int(event["event_id"][0])
            yield event_id, outcome, flag.stage, where, flag.reason, payload

    def _write(self, reason: str, rows: Iterator[_Row], number: int) -> None:
        """Write those of `number` rows that the limits admit; count the others."""
        now_s = time.monotonic()
        if self._file is None:
            return
        kept: list[_Row] = []
        while len(kept) < number and now_s >= self._retry_at_s:
            if not self._limits.admits(reason, now_s):
                break
            row = next(rows)
            self._limits.add(reason, _size(row), now_s)
            kept.append(row)
        if kept:
            try:
                self._file.append(_to_arrow(kept))
            except (OSError, ConfigError) as error:  # refused input must not stop the run
                self._error, self._retry_at_s = str(error), now_s + RETRY_S
                kept.clear()
        self.rows += len(kept)
        self.rows_not_kept += number - len(kept)


def _size(row: _Row) -> int:
    return _ROW_BYTES + sum(len(value) for value in row if isinstance(value, (str, bytes)))


def _to_arrow(rows: list[_Row]) -> pa.RecordBatch:
    columns = [list(values) for values in zip(*rows, strict=True)]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
