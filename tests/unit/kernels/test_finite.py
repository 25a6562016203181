"""The search for NaN and infinity finds each of them, wherever it stands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.kernels.finite import all_finite

NUMBERS = st.floats(width=32) | st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 1e-45])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(values=st.lists(NUMBERS, max_size=30))
def test_it_says_what_numpy_says(dtype, values):
    array = np.array(values, dtype)
    assert all_finite(array) == np.isfinite(array).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 10_000])
def test_one_at_any_place_is_found(dtype, value, size):
    array = np.full(size, np.finfo(dtype).max, dtype)
    assert all_finite(array)
    for place in {0, size // 2, size - 1}:
        wrong = array.copy()
        wrong[place] = value
        assert not all_finite(wrong)
