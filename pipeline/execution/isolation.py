"""Events that break a stage, apart from the others of their batch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sluice.pipeline.core.batch import EventBatch, Flag, Outcome, concatenate
from sluice.pipeline.core.schema import OUTCOME, Column


def blank_failed_rows(
    batch: EventBatch, flags: tuple[Flag, ...], gone: list[int], made: Iterable[Column]
) -> tuple[EventBatch, tuple[Flag, ...]]:
    """Return a batch and its flags as if no stage had seen some of its events.

    Parameters
    ----------
    batch, flags
        As a segment leaves them.
    gone
        Rows of the events that broke a stage of an earlier segment.
    made
        The columns that stages make: they are zeros for these events.
    """
    blank = {column.name: column.zeros(1) for column in made if column.name in batch}
    rows = np.arange(batch.events)
    rows[np.array(gone)] = batch.events
    columns = concatenate((batch.select(blank), EventBatch(blank, 1))).take(rows).columns
    outcome = batch[OUTCOME.name].copy()
    outcome[gone] = Outcome.FAILED
    left = [
        Flag(flag.stage, flag.reason, flag.outcome, [r for r in flag.rows if r not in set(gone)])
        for flag in flags
    ]
    cleaned = batch.with_columns(**{**columns, OUTCOME.name: outcome})
    return cleaned, tuple(flag for flag in left if flag.rows)
