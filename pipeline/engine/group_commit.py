"""Group commit: small results wait a moment for company and become one record batch."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from sluice.pipeline.config.graph_file import GraphTable
from sluice.pipeline.core.batch import EventBatch, concatenate
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.journal.commit import BatchResult, CommitRecord, Journal, ModelSwapRecord
from sluice.pipeline.sinks.base import Sink

#: How long a batch waits of which nothing was kept: its commit costs a write and saves nothing.
_IDLE_HOLD_S = 0.250

#: Told of what is committed: number of the first batch, how many, and the payload of an ACK.
Acknowledge = Callable[[int, int, bytes], None]


class GroupCommit:
    """Gives results to the sink in groups, each with its commit record; then acknowledges.

    A group closes when it has enough events, when it holds a quarter of what may be in flight, or
    when it is old enough. A large result is a group by itself and is not copied.

    Parameters
    ----------
    sink
        Open.
    schema
        Columns of what is kept.
    limits
        Batch size and window.
    last
        Where the journal stood.
    acknowledge
        Called after each commit.
    most_judged
        Events judged that one group settles; a quarter of the window where others wait for it.
    """

    def __init__(
        self,
        sink: Sink,
        schema: Schema,
        limits: GraphTable,
        last: CommitRecord,
        acknowledge: Acknowledge,
        most_judged: int | None = None,
    ) -> None:
        self._sink = sink
        self._journal = Journal(last)
        self._acknowledge = acknowledge
        self._blank = {column.name: column.empty(0) for column in schema}
        self._large = max(1, limits.batch_events // 4)
        window = limits.window * limits.batch_events
        self._most_judged = max(1, window // 4) if most_judged is None else most_judged
        self._most_batches = 16 * limits.window
        self._hasty = False
        self._sealed: deque[tuple[EventBatch, CommitRecord, bytes]] = deque()
        self._begin()

    def _begin(self) -> None:
        self._results: list[BatchResult] = []
        self._judged = 0
        self._kept = 0
        self._close_at = math.inf

    @property
    def next(self) -> int:
        """Number of the batch that is to be added next."""
        return self._journal.next + len(self._results)

    def add(self, result: BatchResult, now_s: float) -> None:
        """Take the result of batch `next`; OSError if a group was due and could not be written."""
        events = result.kept.events
        if events >= self._large and self._kept:
            self._close_group()
        self._close_at = min(
            self._close_at, now_s + (self._sink.max_group_delay_s if events else _IDLE_HOLD_S)
        )
        self._results.append(result)
        self._judged += result.events
        self._kept += events
        if (
            self._hasty
            or self._kept >= self._large
            or self._judged >= self._most_judged
            or len(self._results) >= self._most_batches
        ):
            self._close_group()
        self._write()

    def register_swap(self, swap: ModelSwapRecord) -> None:
        """Note what a swap is, before the first result of its epoch."""
        self._journal.register_swap(swap)

    def knows_epoch(self, epoch: int) -> bool:
        """Whether all swaps up to an epoch were announced."""
        return self._journal.knows_epoch(epoch)

    def due_in(self, now_s: float) -> float:
        """Return the seconds until the open group is to be written."""
        return self._close_at - now_s

    def flush_eagerly(self) -> None:
        """From now on hold nothing back: no more company will come."""
        self._hasty = True
        self._close_at = -math.inf

    def flush(self) -> None:
        """Write what is held and acknowledge it; OSError leaves it held, to be tried again."""
        if self._results:
            self._close_group()
        self._write()

    def _close_group(self) -> None:
        """Close the open group: what is in it is decided, though not written yet."""
        self._sealed.append((self._join(), *self._journal.append(self._results)))
        self._begin()

    def _write(self) -> None:
        while self._sealed:
            batch, commit, payload = self._sealed[0]
            self._sink.write(batch, commit)
            self._sealed.popleft()
            self._acknowledge(commit.first, len(commit.judged), payload)

    def _join(self) -> EventBatch:
        """Return what is kept as one batch under the number of the group's first."""
        first = self._results[0].seq
        parts = [result.kept for result in self._results if result.kept.events]
        if not parts:
            return EventBatch(self._blank, 0, first)
        whole = concatenate(parts)
        return EventBatch(whole.columns, whole.events, first)
