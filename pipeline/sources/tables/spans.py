"""Spans of events that are read at once, and the events before a damaged place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from sluice.pipeline.core.errors import DataError

from .rules.field import TableChunk, ValuesByField


def readable(
    read: Callable[[int, int], ValuesByField], bounds: Iterable[tuple[int, int]]
) -> Iterator[TableChunk]:
    """Yield the result of `read` for each span of events, and for the good part of a damaged one.

    Raises
    ------
    DataError
        If an event cannot be read, after all events before it were yielded.
    """
    for start, stop in bounds:
        try:
            yield TableChunk(events=stop - start, values=read(start, stop))
            continue
        except Exception as error:  # libraries raise any exception for invalid data
            cause = error
        while stop - start > 1:
            middle = (start + stop) // 2
            try:
                values = read(start, middle)
            except Exception as error:
                stop, cause = middle, error
            else:
                yield TableChunk(events=middle - start, values=values)
                start = middle
        raise DataError(f"damaged at event {start}: {one_line(cause)}") from cause


def one_line(error: Exception) -> str:
    """Return the first line of an error's text, with its type if the text is short."""
    text = str(error).strip().partition("\n")[0]
    return text if len(text) > 20 else f"{type(error).__name__}: {text}"


def spans(edges: Sequence[int], max_events: int) -> Iterator[tuple[int, int]]:
    """Yield spans of at most `max_events` events, which end at `edges` where possible.

    Examples
    --------
    >>> list(spans([0, 4, 8, 30], 10))
    [(0, 8), (8, 18), (18, 28), (28, 30)]
    """
    start = last = edges[0]
    for edge in edges:
        if edge - start > max_events and last > start:
            yield start, last
            start = last
        while edge - start > max_events:
            yield start, start + max_events
            start += max_events
        last = edge
    if last > start:
        yield start, last
