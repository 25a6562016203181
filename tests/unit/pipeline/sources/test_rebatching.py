"""Batches are joined and split without losing, doubling or reordering an event."""

from __future__ import annotations

import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.sources import rebatching
from sluice.pipeline.sources.rebatching import Rebatcher


def batches(*sizes):
    first = 0
    for events in sizes:
        yield EventBatch({"event_id": np.arange(first, first + events)}, events)
        first += events


def ids(batch):
    return None if batch is None else batch["event_id"].tolist()


def test_batches_have_the_size_that_is_asked_for():
    source = batches(3, 4, 0, 5)
    rebatcher = Rebatcher(lambda: next(source, None))
    read = [ids(rebatcher.read(events)) for events in (2, 5, 1, 9, 9)]
    assert read == [[0, 1], [2, 3, 4, 5, 6], [7], [8, 9, 10, 11], None]


def test_a_large_batch_is_not_joined():
    source = batches(2, 6, 2)
    rebatcher = Rebatcher(lambda: next(source, None), unjoined_events=6)
    assert [ids(rebatcher.read(4)) for _ in range(4)] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9], None,
    ]  # fmt: skip


def test_an_error_comes_after_the_events_before_it_and_again():
    source = batches(3)

    def damaged():
        if (batch := next(source, None)) is None:
            raise DataError("damaged")
        return batch

    rebatcher = Rebatcher(damaged)
    assert ids(rebatcher.read(2)) == [0, 1]
    assert ids(rebatcher.read(2)) == [2]
    for _ in range(2):
        with pytest.raises(DataError, match="damaged"):
            rebatcher.read(2)


def test_what_is_dropped_does_not_come():
    source = batches(4, 3)
    rebatcher = Rebatcher(lambda: next(source, None))
    assert ids(rebatcher.read(1)) == [0]
    assert rebatcher.held.events == 3
    rebatcher.drop()
    assert ids(rebatcher.read(9)) == [4, 5, 6]


def ragged(first, lengths):
    """A batch of lists of float64; each item is the number of its event."""
    numbers = np.arange(first, first + len(lengths))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    lists = Ragged(np.repeat(numbers, lengths).astype(np.float64), offsets)
    return EventBatch({"event_id": numbers, "lists": lists}, len(lengths))


@pytest.mark.parametrize("columns", [1, 2])
def test_lists_of_one_batch_fit_into_a_message(monkeypatch, columns):
    """One with longer lists than fit comes by itself."""
    monkeypatch.setattr(rebatching, "_MAX_LIST_BYTES", 10 * 8 * columns)
    parts = [ragged(0, [4, 3, 3, 1]), ragged(4, [2, 12, 1]), ragged(7, [0, 0])]
    if columns == 2:
        parts = [part.with_columns(more=part["lists"]) for part in parts]
    source = iter(parts)
    rebatcher = Rebatcher(lambda: next(source, None))
    read = []
    while (batch := rebatcher.read(100)) is not None:
        numbers = ids(batch)
        lists = batch["lists"]
        items = lists.values[lists.offsets[0] : lists.offsets[-1]]
        assert items.tolist() == np.repeat(numbers, np.diff(lists.offsets)).tolist()
        read.append(numbers)
    assert read == [[0, 1, 2], [3, 4], [5], [6, 7, 8]]
