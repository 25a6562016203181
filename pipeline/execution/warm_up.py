"""Warm-up of a chain: blank batches of several sizes, and the time that each size takes."""

from __future__ import annotations

import time
from collections.abc import Callable

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import Schema

#: Number of warm-up batches of each size; 2 for large ones, whose times vary less.
_BATCHES, _LARGE_BATCHES = 5, 2
_LARGE_EVENTS = 8192


def warm_up_sizes(max_events: int) -> list[int]:
    """Return the batch sizes at which service times are measured: powers of 8, and `max_events`.

    Examples
    --------
    >>> warm_up_sizes(100)
    [1, 8, 64, 100]
    """
    found = [1]
    while found[-1] * 8 < max_events:
        found.append(found[-1] * 8)
    return [*found, max_events] if max_events > 1 else found


def measure_service_s(
    process: Callable[[EventBatch], None], inputs: Schema, max_events: int
) -> list[tuple[int, float]]:
    """Process blank batches of each size; return pairs of batch size and shortest time, seconds.

    Parameters
    ----------
    process
        Processes one batch.
    inputs
        Columns of the batches.
    max_events
        Largest batch size.
    """
    measured = []
    for events in warm_up_sizes(max_events):
        blank = EventBatch({c.name: c.sample_zeros(events) for c in inputs}, events)
        times_s = []
        for _ in range(_BATCHES if events < _LARGE_EVENTS else _LARGE_BATCHES):
            start_s = time.perf_counter()
            process(blank)
            times_s.append(time.perf_counter() - start_s)
        measured.append((events, min(times_s)))
    return measured
