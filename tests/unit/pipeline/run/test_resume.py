"""A resumed run reads past what was committed, and counts again what was no event."""

from __future__ import annotations

from unittest.mock import Mock, call

import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.run.resume import skip_committed
from sluice.pipeline.sources.base import Losses, Rejected


class Source:
    """A source of so many events, in batches of 30 at most; it refuses input after each batch."""

    def __init__(self, events):
        self.left, self.asked, self.reads = events, [], 0

    def read(self, max_events):
        self.asked.append(max_events)
        events = min(max_events, self.left, 30)
        self.left -= events
        self.reads += 1
        return EventBatch({}, events) if events else None

    def losses(self):
        return Losses(invalid=[Rejected("here", f"after read {self.reads}", b"", 1)])


def test_exactly_what_was_committed_is_skipped():
    source, accounting = Source(100), Mock()
    skip_committed(source, 75, 40, accounting)
    assert source.asked == [40, 40, 15]
    assert source.left == 25
    assert accounting.record_losses.mock_calls == [
        call(Losses(invalid=[Rejected("here", f"after read {number}", b"", 1)]), "source")
        for number in (1, 2, 3)
    ]


def test_nothing_is_read_if_nothing_was_committed():
    source, accounting = Source(100), Mock()
    skip_committed(source, 0, 40, accounting)
    assert source.asked == []
    accounting.record_losses.assert_not_called()


def test_other_input_is_refused():
    with pytest.raises(DataError, match=r"expected the 75 events .* committed, got 50"):
        skip_committed(Source(50), 75, 40, Mock())
