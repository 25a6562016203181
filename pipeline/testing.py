"""Hypothesis strategies for columns, schemas and batches, for tests of stages and sinks.

Requires hypothesis, which is imported when a strategy is made; the pipeline does not need it.

Examples
--------
>>> from hypothesis import given
>>> @given(batches())
... def test_my_stage_keeps_its_events(drawn):
...     schema, batch = drawn
...     batch.check(schema, "drawn")
>>> test_my_stage_keeps_its_events()
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.ragged import Ragged, offsets_of
from sluice.pipeline.core.schema import Array, Column, Schema

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

#: Dtypes that a column may have.
DTYPES = (
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
    "float16", "float32", "float64",
)  # fmt: skip


def columns(*, dtypes: tuple[str, ...] = DTYPES, ragged: bool = True) -> SearchStrategy[Column]:
    """Return a strategy for columns of any name, dtype, item shape, unit and labels."""
    from hypothesis import strategies as st

    words = st.text("abcdezXYZ019_-./ µ²é€\N{BUG}", min_size=1, max_size=8)

    @st.composite
    def column(draw: Any) -> Column:
        shape = draw(st.lists(st.integers(1, 4), max_size=3).map(tuple))
        labels: tuple[str, ...] = ()
        if len(shape) == 1 and draw(st.booleans()):
            names = st.text("abcdefg_", min_size=1, max_size=6)
            size = shape[0]
            labels = tuple(draw(st.lists(names, min_size=size, max_size=size, unique=True)))
        max_items = 0
        if ragged and draw(st.integers(0, 3)) == 3:
            shape, max_items = (None, *shape), draw(st.sampled_from((0, 5, 1000)))
        about = (draw(words), draw(st.sampled_from(dtypes)), shape, draw(words), labels, max_items)
        return Column(*about)

    return column()


def schemas(
    *, min_columns: int = 1, max_columns: int = 5, ragged: bool = True
) -> SearchStrategy[Schema]:
    """Return a strategy for schemas with columns in this range; some are ragged if `ragged`."""
    from hypothesis import strategies as st

    def by_name(column: Column) -> str:
        return column.name

    several = st.lists(
        columns(ragged=ragged), min_size=min_columns, max_size=max_columns, unique_by=by_name
    )
    return several.map(Schema)


def arrays(column: Column, events: int) -> SearchStrategy[Any]:
    """Return a strategy for the values of a column: any bits, including NaN and infinities."""
    from hypothesis import strategies as st

    def array(noise: bytes, items: int) -> Array:
        size = items * column.item_bytes
        repeated = (noise * (size // len(noise) + 1))[:size]
        return np.frombuffer(repeated, column.dtype).reshape(items, *column.item_shape)

    noises = st.binary(min_size=1, max_size=64)
    if not column.ragged:
        return noises.map(lambda noise: array(noise, events))

    @st.composite
    def ragged(draw: Any) -> Ragged:
        """Draw lists, usually with items of other events before and after them in memory."""
        max_items = min(7, column.item_limit)
        counts = draw(st.lists(st.integers(0, max_items), min_size=events, max_size=events))
        before, behind = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        offsets = before + offsets_of(counts)
        return Ragged(array(draw(noises), int(offsets[-1]) + behind), offsets)

    return ragged()


def batches(
    schema: Schema | None = None, *, max_events: int = 40
) -> SearchStrategy[tuple[Schema, EventBatch]]:
    """Return a strategy for a schema and a batch of 0 to `max_events` events.

    Parameters
    ----------
    schema
        Columns of the batch; None to draw them too.
    max_events
        Largest number of events.
    """
    from hypothesis import strategies as st

    @st.composite
    def batch(draw: Any) -> tuple[Schema, EventBatch]:
        drawn = schema if schema is not None else draw(schemas())
        events = draw(st.integers(0, max_events))
        filled = {column.name: draw(arrays(column, events)) for column in drawn}
        return drawn, EventBatch(filled, events, draw(st.integers(0, 2**40)))

    return batch()


def split(batch: EventBatch, max_events: int) -> Iterator[EventBatch]:
    """Yield views of at most `max_events` events; an empty batch yields nothing."""
    for start in range(0, batch.events, max_events):
        yield batch.slice(start, min(start + max_events, batch.events))
