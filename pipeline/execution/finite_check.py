"""Check of a stage's numbers: events with NaN or infinity are counted, and fail unless kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from sluice.kernels.finite import all_finite
from sluice.pipeline.config.graph_file import KEEP
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import OUTCOME, Array, Column
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.stages.capabilities import Decides, ProvidesFinite

_COMPILED = (np.dtype(np.float32), np.dtype(np.float64))


class FiniteCheck:
    """Finds the undecided events with a NaN or an infinity in some columns.

    Parameters
    ----------
    stage
        Name of the stage, for the reason in the quarantine.
    columns
        Columns of floats to check.
    blanked
        Columns that are zeros for the events that fail.
    keep
        Whether these events go on as they are, and are counted only.
    """

    def __init__(
        self, stage: str, columns: Iterable[Column], blanked: Iterable[Column], *, keep: bool
    ) -> None:
        self._stage = stage
        self._names = tuple(column.name for column in columns)
        self._blanked = tuple(column for column in blanked if column.name != OUTCOME.name)
        self._keep = keep

    def apply(self, batch: EventBatch) -> tuple[EventBatch, int]:
        """Return the batch, with events failed unless they are kept, and the number of these."""
        wrong = [name for name in self._names if not _is_finite(batch.columns[name])]
        if not wrong:
            return batch, 0
        events = np.logical_or.reduce([_wrong_events(batch.columns[name]) for name in wrong])
        rows = np.flatnonzero(events & (batch[OUTCOME.name] == Outcome.OPEN))
        if self._keep or len(rows) == 0:
            return batch, len(rows)
        reason = f"NaN or infinity in {', '.join(wrong)}"
        batch = batch.flag(self._stage, reason, rows, Outcome.FAILED)
        zeros = EventBatch({c.name: c.zeros(1) for c in self._blanked}, 1)
        return batch.replace_rows(rows, zeros), len(rows)


def finite_checks(graph: Graph) -> list[tuple[FiniteCheck | None, FiniteCheck | None]]:
    """Return the checks before and after each stage of a graph.

    A stage's own columns are checked after it, those that later stages, the sink or monitors read.
    Columns of the source are checked before the stage that decides, those that it reads.
    """
    keeps = {part.name for part in graph.config.stages if part.on_nonfinite == KEEP}
    reads = {join.stage: join.inputs for join in graph.joins}
    made = {column.name for join in graph.joins for column in join.outputs}
    found = []
    for stage in graph.stages:
        keep = stage.name in keeps
        decides = isinstance(stage, Decides)
        of_source = [c for c in reads[stage.name] if decides and c.name not in made]
        known = stage.finite_columns.names if isinstance(stage, ProvidesFinite) else ()
        wanted = _read_after(graph, stage.name) - set(known)
        after = [column for column in stage.provides if column.name in wanted]
        found.append(
            (
                _check(stage.name, of_source, (), keep=keep),
                _check(stage.name, after, stage.provides, keep=keep),
            )
        )
    return found


def _check(
    stage: str, columns: Iterable[Column], blanked: Iterable[Column], *, keep: bool
) -> FiniteCheck | None:
    floats = [column for column in columns if np.dtype(column.dtype).kind == "f"]
    return FiniteCheck(stage, floats, blanked, keep=keep) if floats else None


def _read_after(graph: Graph, stage: str) -> set[str]:
    """Return the columns that later stages, monitors, the sink or the next segment read."""
    start = [join.stage for join in graph.joins].index(stage) + 1
    inputs = [join.inputs.names for join in graph.joins[start:]]
    observed = [monitor.consumes.names for monitor in graph.monitors]
    return {name for names in (*inputs, *observed, graph.outputs.names) for name in names}


def _is_finite(column: Any) -> bool:
    values: Array = column.items if type(column) is Ragged else column
    if values.dtype in _COMPILED and values.flags.c_contiguous:
        return all_finite(values.reshape(-1))
    return bool(np.isfinite(values).all())


def _wrong_events(column: Any) -> Array:
    """Return for each event whether a number of it is not finite, bool (N,)."""
    if type(column) is not Ragged:
        wrong: Array = ~np.isfinite(column.reshape(len(column), -1)).all(axis=1)
        return wrong
    items = column.items
    wrong_items = np.flatnonzero(~np.isfinite(items.reshape(len(items), -1)).all(axis=1))
    starts = np.cumsum(column.counts)
    events = np.zeros(len(column), np.bool_)
    events[np.searchsorted(starts, wrong_items, side="right")] = True
    return events
