"""Quarantine: an Arrow file of the refused input of a run, with reasons."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa

from sluice.pipeline.core.batch import EventBatch, Flag, Outcome
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.sources.base import Rejected
from sluice.pipeline.transport.codec import Codec

_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.uint64(), nullable=True),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("where", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
    ]
)
#: Rows that the file of one run may have; later ones are only counted, so that a broken front end
#: does not fill the disk.
MAX_ROWS = 100_000
#: Reasons that are counted apart; later ones are counted as "other reasons".
MAX_REASONS = 100


class Quarantine:
    """Writes refused input to an Arrow file, which is created at the first refusal.

    The column ``payload`` holds the raw line or message of input that is no event, and for an event
    its source columns as an encapsulated Arrow record batch of one row.

    Parameters
    ----------
    path
        Path of the file; None to count reasons only.
    schema
        Source columns of quarantined events.

    Attributes
    ----------
    path
        Path of the file, or None.
    rows
        Number of rows written.
    reasons
        Number of events, or of pieces of input that are none, by reason.
    """

    def __init__(self, path: Path | None, schema: Schema) -> None:
        self.path = path
        self.rows = 0
        self.reasons: dict[str, int] = {}
        self._codec = Codec(schema)
        self._writer: pa.RecordBatchFileWriter | None = None
        self._error: str | None = None

    def add_rejected(self, stage: str, rejected: Rejected) -> None:
        """Add input that is no event."""
        self._count(rejected.reason, max(1, rejected.events))
        row = (None, Outcome.INVALID.name.lower(), stage, rejected.where, rejected.reason)
        self._write([(*row, rejected.payload)])

    def add_flagged(self, flag: Flag, batch: EventBatch) -> None:
        """Add the flagged events of a batch."""
        self._count(flag.reason, len(flag.rows))
        rows: list[tuple[object, ...]] = []
        for row in flag.rows[: max(0, MAX_ROWS - self.rows)]:
            event = batch.slice(row, row + 1)
            where = f"batch {batch.seq}, row {row}"
            payload = self._codec.pack(event).to_pybytes() if self.path else b""
            outcome = Outcome(flag.outcome).name.lower()
            rows.append(
                (int(event["event_id"][0]), outcome, flag.stage, where, flag.reason, payload)
            )
        self._write(rows)

    def describe(self) -> dict[str, object]:
        """Return the report's ``quarantine``: path, rows, reasons, error that ended writing."""
        path = str(self.path) if self._writer else None
        return {
            "path": path,
            "rows": self.rows,
            "reasons": dict(self.reasons),
            "error": self._error,
        }

    def close(self) -> None:
        """End the file, if there is one."""
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError as error:
                self._error = str(error)

    def _count(self, reason: str, events: int) -> None:
        key = (
            reason if reason in self.reasons or len(self.reasons) < MAX_REASONS else "other reasons"
        )
        self.reasons[key] = self.reasons.get(key, 0) + events

    def _write(self, rows: list[tuple[object, ...]]) -> None:
        if self.path is None or not rows or self.rows >= MAX_ROWS or self._error:
            return
        try:
            if self._writer is None:
                os.makedirs(self.path.parent, exist_ok=True)
                self._writer = pa.ipc.new_stream(str(self.path), _SCHEMA)
            columns = [list(values) for values in zip(*rows, strict=True)]
            arrays = [pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)]
            self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA))
            self.rows += len(rows)
        except OSError as error:  # a full disk must not stop the run for refused input
            self._error = str(error)
