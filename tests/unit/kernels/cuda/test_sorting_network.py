"""The sorting network sorts: by the 0-1 principle where all inputs can be tried, else at random."""

from itertools import product

import numpy as np
import pytest

from sluice.kernels.cuda.sorting_network import comparators


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 11])
def test_every_input_of_zeros_and_ones_is_sorted(size: int) -> None:
    columns = np.array(list(product((0, 1), repeat=size))).T.copy()
    for i, j in comparators(size):
        columns[i], columns[j] = np.minimum(columns[i], columns[j]), columns[[i, j]].max(0)
    assert (np.diff(columns, axis=0) >= 0).all()


def test_48_are_sorted() -> None:
    columns = np.random.default_rng(1).integers(0, 60, (48, 4000))
    expected = np.sort(columns, axis=0)
    for i, j in comparators(48):
        columns[i], columns[j] = np.minimum(columns[i], columns[j]), columns[[i, j]].max(0)
    np.testing.assert_array_equal(columns, expected)
