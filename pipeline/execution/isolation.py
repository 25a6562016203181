"""Isolation of events that cause an error in a stage: only they fail, not their whole batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from sluice.pipeline.core.batch import EventBatch, Flag, Outcome, concatenate
from sluice.pipeline.core.errors import shorten
from sluice.pipeline.core.schema import DECISION, OUTCOME, Column

from .crash_search import Search

#: Events that may be isolated in one batch; all that is left of it then fails together. Bounds the
#: time of the search, which processes up to log2(N) parts of the batch for each of them.
MAX_ISOLATED_EVENTS = 16
#: Reasons that the flags of one batch may have, and characters of each: the flags travel with the
#: batch's summary, whose size is limited.
MAX_REASONS, MAX_REASON_CHARACTERS = 256, 500
OTHER_REASONS = "other reasons"


class StageError(Exception):
    """A stage raised an exception, or gave other columns than it provides.

    Parameters
    ----------
    stage
        Name of the stage.
    error
        The exception.
    """

    def __init__(self, stage: str, error: Exception) -> None:
        super().__init__(describe_exception(error))
        self.stage = stage


def describe_exception(error: Exception) -> str:
    """Return type and message of an exception.

    Examples
    --------
    >>> describe_exception(ValueError("expected 3 columns, got 2"))
    'ValueError: expected 3 columns, got 2'
    """
    return f"{type(error).__name__}: {error}"


def isolate_failures(
    batch: EventBatch,
    process: Callable[[EventBatch], EventBatch],
    names: Iterable[str],
    added: Mapping[str, Column],
    search: Search | None = None,
) -> tuple[EventBatch, tuple[Flag, ...]]:
    """Halve a batch until the events that break a stage are alone, and fail those only.

    Parameters
    ----------
    batch
        The batch as it entered the chain.
    process
        Runs all stages on a part of the batch; raises `StageError`.
    names
        Columns of the processed batch that are needed, beside outcome and decision.
    added
        Columns that stages add, by name; they are zeros for failed events.
    search
        Search for the events that end their worker; None for a batch that has ended none.

    Returns
    -------
    processed, flags
        The batch with the columns needed, copied, and its events that failed or are invalid.
    """
    wanted = {*names, OUTCOME.name, DECISION.name}
    parts: list[EventBatch] = []
    flags: list[Flag] = []
    failures = 0
    ranges = search.ranges(batch.events)[::-1] if search else [(0, batch.events)]
    while ranges:
        start, stop = ranges.pop()
        part = batch.slice(start, stop)
        killer = search is not None and search.is_killer(start, stop)
        stage = "chain"
        reason = f"RuntimeError: more than {failures} events of the batch broke a stage"
        if search is not None and killer:
            reason = search.reason
        elif search is not None:
            search.begin(start, stop)
        try:
            done = process(part) if failures < MAX_ISOLATED_EVENTS and not killer else None
        except StageError as error:
            if stop - start > 1:
                middle = (start + stop) // 2
                ranges += [(middle, stop), (start, middle)]
                continue
            done, stage, reason = None, error.stage, str(error)
        if done is None:
            failures += not killer
            flags.append(Flag(stage, reason, Outcome.FAILED, list(range(start, stop))))
            done = _failed(part, wanted, added)
        else:
            flags += [_shift(flag, start) for flag in done.flags]
        parts.append(done.select(wanted).take(np.arange(done.events)))
    if search is not None:
        search.end()
    return concatenate(parts), tuple(flags)


def blank_failed_rows(
    batch: EventBatch, flags: tuple[Flag, ...], rows: list[int], added: Iterable[Column]
) -> tuple[EventBatch, tuple[Flag, ...]]:
    """Return a batch and its flags as if no stage of this segment had processed some events.

    Parameters
    ----------
    batch, flags
        Output of the segment.
    rows
        Rows of the events that broke a stage of an earlier segment.
    added
        Columns that stages add; they are zeros for these events.
    """
    blank = {column.name: column.zeros(1) for column in added if column.name in batch}
    batch = batch.replace_rows(np.array(rows), EventBatch(blank, 1))
    outcome = batch[OUTCOME.name].copy()
    outcome[rows] = Outcome.FAILED
    left = [
        Flag(flag.stage, flag.reason, flag.outcome, [r for r in flag.rows if r not in set(rows)])
        for flag in flags
    ]
    cleaned = batch.with_columns(outcome=outcome)
    return cleaned, tuple(flag for flag in left if flag.rows)


def limit_flags(flags: tuple[Flag, ...], events: int) -> tuple[Flag, ...]:
    """Return flags that fit a batch summary, whatever the stages wrote into them.

    Long reasons are shortened, and those beyond `MAX_REASONS` become "other reasons". If there are
    more rows than events, each event stays with the first flag that names it.

    Parameters
    ----------
    flags
        Flags of a batch.
    events
        Number of events of the batch.
    """
    if sum(len(flag.rows) for flag in flags) > events:
        flags = _first_flag_only(flags, events)
    others: dict[tuple[str, int], list[int]] = {}
    for flag in flags[MAX_REASONS:]:
        others.setdefault((flag.stage, flag.outcome), []).extend(flag.rows)
    limited = [
        Flag(flag.stage, shorten(flag.reason, MAX_REASON_CHARACTERS), flag.outcome, flag.rows)
        for flag in flags[:MAX_REASONS]
    ]
    limited += [Flag(stage, OTHER_REASONS, out, rows) for (stage, out), rows in others.items()]
    return tuple(limited)


def _first_flag_only(flags: tuple[Flag, ...], events: int) -> tuple[Flag, ...]:
    """Return the flags with each event in the first that names it."""
    free = np.ones(events, np.bool_)
    kept = []
    for flag in flags:
        rows = np.unique(flag.rows)
        rows = rows[free[rows]]
        free[rows] = False
        kept.append(Flag(flag.stage, flag.reason, flag.outcome, rows.tolist()))
    return tuple(flag for flag in kept if flag.rows)


def _failed(part: EventBatch, names: Iterable[str], added: Mapping[str, Column]) -> EventBatch:
    """Return events with outcome FAILED and zeros in every column that a stage would add."""
    zeros = {name: added[name].zeros(part.events) for name in names if name in added}
    outcome = np.full(part.events, Outcome.FAILED, np.uint8)
    decision = np.zeros(part.events, np.uint64)
    return part.with_columns(**{**zeros, OUTCOME.name: outcome, DECISION.name: decision})


def _shift(flag: Flag, rows: int) -> Flag:
    return Flag(flag.stage, flag.reason, flag.outcome, [row + rows for row in flag.rows])
