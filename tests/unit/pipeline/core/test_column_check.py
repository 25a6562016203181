"""The gate behind a stage: what has passed passes again, everything else is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.buffers import ColumnCheck, OutputBuffers
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import Column, Schema

SCHEMA = Schema((Column("x", "float32", (3,)), Column("n", "uint8")))


def batch(events, **columns):
    good = {"x": np.zeros((events, 3), np.float32), "n": np.zeros(events, np.uint8)}
    return EventBatch(good | columns, events)


@pytest.mark.parametrize(
    "bad",
    [
        {"x": np.zeros((4, 3))},
        {"x": np.zeros((4, 2), np.float32)},
        {"x": np.zeros((5, 3), np.float32)},
        {"n": np.zeros(4, np.int8)},
    ],
)
def test_a_wrong_column_is_refused_before_and_after_right_ones(bad):
    column_check = ColumnCheck(SCHEMA, "stage 'a'")
    with pytest.raises(DataError, match="stage 'a'"):
        column_check.check(batch(4, **bad))
    right = batch(4)
    column_check.check(right)
    column_check.check(right)
    with pytest.raises(DataError, match="stage 'a'"):
        column_check.check(batch(4, **(right.columns | bad)))
    column_check.check(right)


def test_known_arrays_are_refused_for_another_number_of_events():
    column_check, right = ColumnCheck(SCHEMA, "a"), batch(4)
    column_check.check(right)
    with pytest.raises(DataError, match="expected 5 events, got 4"):
        column_check.check(EventBatch(right.columns, 5))


def test_a_missing_column_is_named():
    column_check, right = ColumnCheck(SCHEMA, "a"), batch(4)
    column_check.check(right)
    with pytest.raises(DataError, match="got no such column"):
        column_check.check(right.select(["x"]))


def test_a_pool_gives_the_same_arrays_again_and_grows():
    pool = OutputBuffers(SCHEMA, 8)
    first = pool.arrays(5)
    assert pool.arrays(5) is first
    assert [len(array) for array in pool.arrays(8)] == [8, 8]
    assert [len(array) for array in pool.arrays(20)] == [20, 20]
    assert [len(array) for array in pool.arrays(3)] == [3, 3]
    assert all(np.shares_memory(a, b) for a, b in zip(pool.arrays(3), pool.arrays(20), strict=True))
