"""Batch summariser: the events of a processed batch that are kept, and the batch's summary."""

from __future__ import annotations

import numpy as np

from sluice.kernels.counting import accept_open, count_bits, count_outcomes, matching_rows
from sluice.pipeline.core.batch import EventBatch, Flag, Outcome
from sluice.pipeline.core.schema import DECISION, DECISION_RECORD_COLUMNS, EVENT_ID, OUTCOME, Array
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.journal.batch_record import pack_batch_record
from sluice.pipeline.stages.menu import PASS_THROUGH_BIT
from sluice.pipeline.transport.batch_summary import BatchSummary

from .decision_record import BatchFacts, DecisionRecord

#: Decision of an event that pass-through keeps and no path.
_PASS_THROUGH_ALONE = np.uint64(1 << PASS_THROUGH_BIT)


class BatchSummariser:
    """Sums up processed batches.

    Parameters
    ----------
    graph
        Graph whose menu decides and whose outputs are kept.
    keep
        Events that go on to the sink: ``accepted`` or ``all``.

    Attributes
    ----------
    names
        Columns of the processed batch that are kept.
    """

    def __init__(self, graph: Graph, keep: str) -> None:
        self._has_menu = bool(graph.paths())
        self._rows = np.empty(0, np.int64)
        self._keep_all = keep == "all"
        added = {column.name for column in DECISION_RECORD_COLUMNS}
        self._keeps = len(graph.outputs) > 0
        self.names = tuple(name for name in graph.outputs.names if name not in added)
        menu = graph.decision_stage()
        self._recorder = DecisionRecord(
            graph.outputs.names,
            menu.prescales() if menu else None,
            graph.config.graph.batch_events,
        )

    @property
    def needed_columns(self) -> set[str]:
        """Columns of the processed batch that `summarise` reads."""
        return {*self.names, EVENT_ID.name, *self._recorder.reads}

    def summarise(
        self, batch: EventBatch, flags: tuple[Flag, ...], facts: BatchFacts
    ) -> tuple[EventBatch, BatchSummary]:
        """Return the events for the sink, with the columns of ``graph.outputs``, and the summary.

        Parameters
        ----------
        batch
            Output of the last stage.
        flags
            Events of the batch that are invalid or failed, with reasons.
        facts
            Values that all events of the batch have in common.
        """
        outcome: Array = batch[OUTCOME.name]
        if not self._has_menu:  # a graph without a menu accepts every event that no stage refused
            accepted = np.empty_like(outcome)
            accept_open(outcome, accepted)
            outcome, batch = accepted, batch.with_columns(outcome=accepted)
        counts, paths = np.zeros(len(Outcome), np.int64), np.zeros(64, np.int64)
        count_outcomes(outcome, counts)
        count_bits(batch[DECISION.name], paths)
        if paths[PASS_THROUGH_BIT]:  # it counts only what no path keeps: classes that add up
            paths[PASS_THROUGH_BIT] = np.count_nonzero(batch[DECISION.name] == _PASS_THROUGH_ALONE)
        rows = self._accepted_rows(outcome) if self._keeps and not self._keep_all else None
        kept = batch.select(self.names)
        if not self._keeps:
            kept = EventBatch({}, 0, batch.seq)
        elif rows is not None:
            kept = kept.take(rows)
        kept = self._recorder.columns_for(kept, batch, rows, facts)
        batch_record = pack_batch_record(
            facts.seq, batch[EVENT_ID.name], counts.tolist(), facts.epoch, facts.rung
        )
        summary = BatchSummary(
            counts.tobytes(), paths.tobytes(), facts.ended, list(flags), batch_record
        )
        return kept, summary

    def _accepted_rows(self, outcome: Array) -> Array:
        if len(self._rows) < len(outcome):
            self._rows = np.empty(len(outcome), np.int64)
        return self._rows[: matching_rows(outcome, Outcome.ACCEPTED, self._rows)]
