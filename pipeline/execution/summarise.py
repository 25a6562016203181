"""What comes of a judged batch: the events that are kept, and a summary for the account."""

from __future__ import annotations

import numpy as np

from sluice.kernels.counting import count_bits, count_outcomes, matching_rows
from sluice.pipeline.core.batch import EventBatch, Flag, Outcome
from sluice.pipeline.core.schema import DECISION, DECISION_RECORD_COLUMNS, EVENT_ID, OUTCOME, Array
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.journal.batch_record import pack_batch_record
from sluice.pipeline.transport.batch_summary import BatchSummary

from .decision_record import BatchFacts, DecisionRecord

#: What is open becomes accepted by the larger number; all other outcomes have one that is larger.
_SOUND = np.uint8(Outcome.ACCEPTED)


class BatchSummariser:
    """Sums up judged batches.

    Parameters
    ----------
    graph
        Whose menu has judged, and whose outputs are kept.
    keep
        ``accepted`` or ``all``: which events go on to the sink.
    """

    def __init__(self, graph: Graph, keep: str) -> None:
        self._has_menu = bool(graph.paths())
        self._rows = np.empty(0, np.int64)
        self._keep_all = keep == "all"
        made_here = {column.name for column in DECISION_RECORD_COLUMNS}
        self._keeps = len(graph.outputs) > 0
        #: Columns of the judged batch that are kept.
        self.names = tuple(name for name in graph.outputs.names if name not in made_here)
        judge = graph.decision_stage()
        self._recorder = DecisionRecord(
            graph.outputs.names,
            judge.prescales() if judge else None,
            graph.config.graph.batch_events,
        )

    @property
    def needed_columns(self) -> set[str]:
        """Columns of the judged batch that it needs."""
        return {*self.names, EVENT_ID.name, *self._recorder.reads}

    def summarise(
        self, batch: EventBatch, flags: tuple[Flag, ...], facts: BatchFacts
    ) -> tuple[EventBatch, BatchSummary]:
        """Return the events for the sink, with the columns of ``graph.outputs``, and the summary.

        Parameters
        ----------
        batch
            As the last stage has left it.
        flags
            Its events that were not judged.
        facts
            What its events have in common.
        """
        outcome: Array = batch[OUTCOME.name]
        if not self._has_menu:  # a graph without a menu accepts what is sound
            outcome = np.maximum(outcome, _SOUND)
            batch = batch.with_columns(outcome=outcome)
        counts, paths = np.zeros(len(Outcome), np.int64), np.zeros(64, np.int64)
        count_outcomes(outcome, counts)
        count_bits(batch[DECISION.name], paths)
        rows = self._accepted(outcome) if self._keeps and not self._keep_all else None
        kept = batch.select(self.names)
        if not self._keeps:
            kept = EventBatch({}, 0, batch.seq)
        elif rows is not None:
            kept = kept.take(rows)
        kept = self._recorder.columns_for(kept, batch, rows, facts)
        composition = pack_batch_record(
            facts.seq, batch[EVENT_ID.name], counts.tolist(), facts.epoch, facts.rung
        )
        found = (counts.tobytes(), paths.tobytes(), facts.ended, list(flags), composition)
        return kept, BatchSummary(*found)

    def _accepted(self, outcome: Array) -> Array:
        if len(self._rows) < len(outcome):
            self._rows = np.empty(len(outcome), np.int64)
        return self._rows[: matching_rows(outcome, Outcome.ACCEPTED, self._rows)]
