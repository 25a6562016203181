"""What is left of events that broke a stage of an earlier segment."""

from __future__ import annotations

import numpy as np

from sluice.pipeline.core.batch import EventBatch, Flag, Outcome
from sluice.pipeline.core.schema import Column
from sluice.pipeline.execution.isolation import blank_failed_rows

_ADDED = (Column("score", "float32"), Column("absent", "float32"))


def test_rows_that_failed_are_blank_and_keep_no_flag_of_this_segment():
    batch = EventBatch(
        {
            "event_id": np.arange(5, dtype=np.uint64),
            "score": np.arange(1, 6, dtype=np.float32),
            "outcome": np.full(5, Outcome.OPEN, np.uint8),
        },
        5,
    )
    flags = (
        Flag("tag", "not finite", Outcome.INVALID, [0, 1, 3]),
        Flag("tag", "too long", Outcome.FAILED, [3]),
        Flag("menu", "no path", Outcome.FAILED, [4]),
    )
    cleaned, left = blank_failed_rows(batch, flags, [1, 3], _ADDED)
    assert cleaned["event_id"].tolist() == [0, 1, 2, 3, 4]
    assert cleaned["score"].tolist() == [1, 0, 3, 0, 5]
    failed, still = int(Outcome.FAILED), int(Outcome.OPEN)
    assert cleaned["outcome"].tolist() == [still, failed, still, failed, still]
    assert "absent" not in cleaned
    assert left == (
        Flag("tag", "not finite", Outcome.INVALID, [0]),
        Flag("menu", "no path", Outcome.FAILED, [4]),
    )
    assert batch["outcome"].tolist() == [still] * 5  # the batch that came is as it was
