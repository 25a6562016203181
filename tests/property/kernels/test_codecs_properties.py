"""The classical codecs against slow, obvious definitions, and what must hold of each."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sluice.kernels import wafer
from sluice.kernels.emd.exact import emd_pairs
from sluice.kernels.wafer import codecs

DROPS = st.integers(-1, 4)
COUNTS = st.one_of(st.integers(0, 60), st.integers(0, 2**22), st.just(0)).map(float)
FRACTIONS = st.one_of(st.floats(2.0**-10, 100, width=32), st.just(0.0))
#: A sum that is rounded to float32 and shared out, which rounds once more, is this close.
TWICE_ROUNDED = 2.01 * 2.0**-24
ROWS = st.integers(0, 3)
CHARGES = st.tuples(ROWS, st.sampled_from([COUNTS, FRACTIONS])).flatmap(
    lambda how: hnp.arrays(np.float32, (how[0], 48), elements=how[1])
)
GROUPS = st.sampled_from([codecs.GROUPS_OF_4, codecs.GROUPS_OF_16]) | st.permutations(
    range(48)
).map(lambda cells: np.array(cells).reshape(12, 4))


def floated(charge, drop, exponents, mantissa):
    """Sections 3 and 6 of the chip's specification; the centre of the bin but for code 0.

    In float32, as the kernels give it.
    """
    if drop < 0:
        return charge
    whole = math.floor(charge) >> drop
    exponent = max(0, whole.bit_length() - mantissa)
    low, width = whole, 1
    if exponent >= exponents:
        low, width = (2 ** (mantissa + 1) - 1) << (exponents - 2), 1 << (exponents - 2)
    elif exponent > 0:
        width = 1 << (exponent - 1)
        low = whole // width * width
    low, width = low << drop, width << drop
    return np.float32(low + (width - 1) / 2 if low else 0.0)


def summed(charges):
    """Return the sum of charges as the kernels round it: once, from the exact sum to float32.

    48 of the charges above add up without an error in a float64, in any order.
    """
    return float(np.float32(math.fsum(charges)))


def shared(row, kept, drop, decoded):
    rest = [float(row[k]) for k in range(48) if not kept[k]]
    if drop >= 0:
        rest = [math.floor(charge) >> drop << drop for charge in rest]
    for k in range(48):
        if not kept[k]:
            decoded[k] = np.float32(floated(summed(rest), drop, 32, 3)) / np.float32(len(rest))


def apply(codec, charge, *options):
    decoded = np.full_like(charge, np.nan)
    codec(charge, *options, decoded)
    return decoded


def apply_threshold(charge, level, spread, drop, kernels=codecs):
    decoded, bits = np.full_like(charge, np.nan), np.full(len(charge), -1)
    kernels.threshold(charge, level, spread, drop, decoded, bits)
    return decoded, bits


def same(decoded, expected):
    expected = np.reshape(expected, decoded.shape).astype(np.float32)
    np.testing.assert_array_equal(decoded, expected)


def test_threshold_is_its_definition(implementation):
    kernels = implementation.kernels("wafer.codecs")

    def holds(charge, level, spread, drop):
        expected, sizes = [], []
        for row in charge:
            kept = [charge >= level for charge in row]
            decoded = [
                floated(float(q), drop, 16, 3) if keep else 0.0
                for q, keep in zip(row, kept, strict=True)
            ]
            if spread:
                shared(row, kept, min(drop, 0), decoded)
            expected.append(decoded)
            sent = sum(kept)
            words = 1 + math.ceil(((3 + 13 * sent) if sent < 8 else (48 + 7 * sent)) / 16)
            sizes.append(16 * (words if sent else 1) - 5)
        decoded, bits = apply_threshold(charge, level, spread, drop, kernels)
        same(decoded, expected)
        assert bits.tolist() == sizes

    implementation.check(holds, CHARGES, st.sampled_from([0.0, 47.25, 500.0]), st.booleans(), DROPS)


def test_best_choice_is_its_definition(implementation):
    kernels = implementation.kernels("wafer.codecs")

    def holds(charge, cells, spread, drop):
        expected = []
        for row in charge:
            chosen = sorted(range(48), key=lambda k: (row[k], k), reverse=True)[:cells]
            kept = [k in chosen for k in range(48)]
            decoded = [floated(float(row[k]), drop, 16, 3) if kept[k] else 0.0 for k in range(48)]
            if spread:
                shared(row, kept, drop, decoded)
            expected.append(decoded)
        same(apply(kernels.best_choice, charge, cells, spread, drop), expected)

    implementation.check(holds, CHARGES, st.integers(0, 48), st.booleans(), DROPS)


def test_super_trigger_cell_is_its_definition(implementation):
    kernels = implementation.kernels("wafer.codecs")

    def holds(charge, groups, spread, drop):
        expected = np.zeros(charge.shape)
        for row, decoded in zip(charge, expected, strict=True):
            for group in groups:
                total = np.float32(floated(summed(row[group]), min(drop, 0), 32, 4))
                if spread:
                    decoded[group] = total / np.float32(len(group))
                else:
                    decoded[max(enumerate(group), key=lambda at: (row[at[1]], at[0]))[1]] = total
        same(apply(kernels.super_trigger_cell, charge, groups, spread, drop), expected)

    implementation.check(holds, CHARGES, GROUPS, st.booleans(), DROPS)


def test_repeater_is_its_definition(implementation):
    kernels = implementation.kernels("wafer.codecs")

    def holds(charge, drop):
        expected = [[floated(float(q), drop, 16, 3) for q in row] for row in charge]
        same(apply(kernels.repeater, charge, drop), expected)

    implementation.check(holds, CHARGES, DROPS)


@pytest.mark.parametrize("spread", [False, True])
def test_a_sum_that_float32_rounds_up_is_coded_as_rounded(spread):
    charge = np.zeros((1, 48), np.float32)
    charge[0, :15] = 1.8  # 26.99999928, the nearest float32 is 27
    assert math.floor(math.fsum(charge[0])) == 26
    assert summed(charge[0]) == 27
    decoded = apply(codecs.super_trigger_cell, charge, np.arange(48).reshape(3, 16), spread, 0)
    same(decoded.sum(dtype=np.float64), floated(27.0, 0, 32, 4))


@given(CHARGES)
def test_the_repeater_keeps_the_codes_of_the_front_end(charge):
    before, after = (np.empty(charge.shape, np.uint8) for _ in range(2))
    wafer.encode_charge(charge, before)
    wafer.encode_charge(apply(codecs.repeater, charge, 3), after)
    np.testing.assert_array_equal(before, after)


@given(CHARGES, st.booleans())
def test_all_cells_sent_uncoded_are_the_wafer(charge, spread):
    np.testing.assert_array_equal(apply(codecs.best_choice, charge, 48, spread, -1), charge)
    np.testing.assert_array_equal(apply_threshold(charge, 0.0, spread, -1)[0], charge)
    np.testing.assert_array_equal(apply(codecs.repeater, charge, -1), charge)


@given(CHARGES, GROUPS, st.booleans())
def test_group_sums_are_kept(charge, groups, spread):
    decoded = apply(codecs.super_trigger_cell, charge, groups, spread, -1)
    sums = decoded[:, groups].sum(axis=2, dtype=np.float64)
    expected = charge[:, groups].sum(axis=2, dtype=np.float64)
    np.testing.assert_allclose(sums, expected, rtol=TWICE_ROUNDED)


@given(CHARGES, st.integers(0, 47))
def test_spreading_keeps_the_sum(charge, cells):
    for decoded in (
        apply(codecs.best_choice, charge, cells, True, -1),
        apply_threshold(charge, 47.25, True, -1)[0],
    ):
        totals = decoded.sum(axis=1, dtype=np.float64)
        expected = charge.sum(axis=1, dtype=np.float64)
        np.testing.assert_allclose(totals, expected, rtol=TWICE_ROUNDED)


@given(CHARGES, st.integers(1, 47))
def test_more_cells_are_never_worse(charge, cells):
    charge = charge[charge.any(axis=1)]
    fewer = apply(codecs.best_choice, charge, cells, False, -1)
    more = apply(codecs.best_choice, charge, cells + 1, False, -1)
    assert (more >= fewer).all()
    # Exact sums: see `summed`.
    assert (more.sum(axis=1, dtype=np.float64) <= charge.sum(axis=1, dtype=np.float64)).all()
    assert codecs.best_choice_bits(cells + 1) > codecs.best_choice_bits(cells)


@given(st.lists(st.integers(0, 2**23), min_size=48, max_size=48), DROPS)
def test_coding_is_monotone_and_within_a_sixteenth(charges, drop):
    charge = np.sort(np.array([charges], np.float32))
    decoded = apply(codecs.repeater, charge, drop).astype(np.float64)
    assert (np.diff(decoded) >= 0).all()
    step = 1 << max(drop, 0)
    fits = charge < 2 ** (18 + max(drop, 0))
    error = np.abs(decoded - charge)[fits]
    assert (error <= np.maximum(charge[fits] / 16, step)).all()


@pytest.mark.parametrize("cells", [8, 16, 32])
def test_distance_falls_with_the_cells_sent(cells):
    charge = np.random.default_rng(3).gamma(0.3, 100, (50, 48)).astype(np.float32)
    few, many = (apply(codecs.best_choice, charge, n, False, -1) for n in (cells, cells + 8))
    assert emd_pairs(charge, many).mean() < emd_pairs(charge, few).mean()
