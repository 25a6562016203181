"""Group commit: small results are collected for a short time into one record batch."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from sluice.pipeline.config.graph_file import GraphTable
from sluice.pipeline.core.batch import EventBatch, concatenate
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.journal.commit import BatchResult, CommitRecord, Journal, ModelSwapRecord
from sluice.pipeline.sinks.base import Sink
from sluice.pipeline.transport.protocol import MAX_SUMMARY_BYTES

#: Longest delay of a group without kept events, s: its commit costs a write and stores no event.
_EMPTY_GROUP_DELAY_S = 0.250

#: Largest size of the summaries of a group, bytes: a little less than an ACK may have.
_MAX_SUMMARY_BYTES = MAX_SUMMARY_BYTES - 64
#: Called after a commit: number of the first batch, number of batches, payload of the ACK.
Acknowledge = Callable[[int, int, bytes], None]


class GroupCommit:
    """Writes results to the sink in groups, each with its commit record; then acknowledges them.

    A group closes when it has enough events, when it holds a quarter of the window, when its
    summaries fill an ACK, or when it is old enough. A large result is a group by itself and is not
    copied.

    Parameters
    ----------
    sink
        The sink, open.
    schema
        Columns of the kept events.
    limits
        Batch size and window.
    last
        Last commit record of the output.
    acknowledge
        Called after each commit.
    max_events
        Largest number of processed events in a group; a quarter of the window by default, because
        the window is not free before the commit.
    """

    def __init__(
        self,
        sink: Sink,
        schema: Schema,
        limits: GraphTable,
        last: CommitRecord,
        acknowledge: Acknowledge,
        max_events: int | None = None,
    ) -> None:
        self._sink = sink
        self._journal = Journal(last)
        self._acknowledge = acknowledge
        self._empty_columns = {column.name: column.empty(0) for column in schema}
        self._large_events = max(1, limits.batch_events // 4)
        window = limits.window * limits.batch_events
        self._max_events = max(1, window // 4) if max_events is None else max_events
        self._max_batches = 16 * limits.window
        self._eager = False
        self._closed: deque[tuple[EventBatch, CommitRecord, bytes]] = deque()
        self._open_group()

    def _open_group(self) -> None:
        self._results: list[BatchResult] = []
        self._events = 0
        self._kept = 0
        self._summary_bytes = 0
        self._close_at = math.inf

    @property
    def next(self) -> int:
        """Number of the batch to be added next."""
        return self._journal.next + len(self._results)

    @property
    def committed(self) -> list[int]:
        """Number of events by `Outcome` in all batches of the journal, also of earlier attempts."""
        return self._journal.counts

    def add(self, result: BatchResult, now_s: float) -> None:
        """Add the result of batch `next`; OSError if a closed group could not be written."""
        events, summary_bytes = result.kept.events, len(result.summary)
        fits = self._summary_bytes + summary_bytes <= _MAX_SUMMARY_BYTES
        if self._results and not (fits and (events < self._large_events or not self._kept)):
            self._close_group()
        self._close_at = min(
            self._close_at,
            now_s + (self._sink.max_group_delay_s if events else _EMPTY_GROUP_DELAY_S),
        )
        self._results.append(result)
        self._events += result.events
        self._kept += events
        self._summary_bytes += summary_bytes
        if (
            self._eager
            or self._kept >= self._large_events
            or self._events >= self._max_events
            or len(self._results) >= self._max_batches
        ):
            self._close_group()
        self._write()

    def register_swap(self, swap: ModelSwapRecord) -> None:
        """Register a swap for the journal, before the first result of its epoch."""
        self._journal.register_swap(swap)

    def knows_epoch(self, epoch: int) -> bool:
        """Whether all swaps up to an epoch are registered."""
        return self._journal.knows_epoch(epoch)

    def due_in(self, now_s: float) -> float:
        """Return the time until the open group closes, s."""
        return self._close_at - now_s

    def flush_eagerly(self) -> None:
        """Close every group at once from now on: no more batches are sent."""
        self._eager = True
        if self._results:  # else the sink would look for results again and again without a pause
            self._close_at = -math.inf

    def flush(self) -> None:
        """Write and acknowledge all results; after an OSError they are kept for a retry."""
        if self._results:
            self._close_group()
        self._write()

    def _close_group(self) -> None:
        """Close the open group: its content is final, though not written yet."""
        self._closed.append((self._merge(), *self._journal.append(self._results)))
        self._open_group()

    def _write(self) -> None:
        while self._closed:
            batch, commit, payload = self._closed[0]
            self._sink.write(batch, commit)
            self._closed.popleft()
            self._acknowledge(commit.first, len(commit.events_by_batch), payload)

    def _merge(self) -> EventBatch:
        """Return the kept events of the group as one batch, with the number of its first batch."""
        first = self._results[0].seq
        kept = [result.kept for result in self._results if result.kept.events]
        if not kept:
            return EventBatch(self._empty_columns, 0, first)
        whole = concatenate(kept)
        return EventBatch(whole.columns, whole.events, first)
