"""Limits of lists: an event with more items than its column may hold is refused by itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..batch import EventBatch
from ..schema import Schema
from ..wire import Codec
from . import Rejected


def within_limits(
    batch: EventBatch, schema: Schema, where: Callable[[int], str]
) -> tuple[EventBatch, list[Rejected]]:
    """Return the events whose lists are short enough, and the others.

    Parameters
    ----------
    batch
        With the columns of `schema`.
    schema
        Which columns have lists, and how long these may be.
    where
        Tells from the row of an event in the batch where it was.
    """
    refused: dict[int, str] = {}
    for name in schema.ragged:
        counts, most = batch.ragged(name).counts, schema[name].most_items
        for row in np.flatnonzero(counts > most).tolist():
            reason = f"column {name!r}: expected at most {most} items, got {counts[row]}"
            refused.setdefault(row, reason)
    if not refused:
        return batch, []
    codec = Codec(schema)
    rejected = [
        Rejected(where(row), reason, codec.pack(batch.slice(row, row + 1)).to_pybytes())
        for row, reason in sorted(refused.items())
    ]
    return batch.take(np.setdiff1d(np.arange(batch.events), list(refused))), rejected
