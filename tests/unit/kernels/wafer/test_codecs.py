"""The classical codecs on the chip's golden vectors, on published numbers and on bad calls."""

import csv
from pathlib import Path

import numpy as np
import pytest

from sluice.kernels import wafer
from sluice.kernels.emd.exact import emd_pairs
from sluice.kernels.wafer import codecs

NEIGHBOURS_IN_NUMBER = np.arange(48).reshape(12, 4)


def hexadecimal(path: Path):
    with path.open() as file:
        rows = list(csv.reader(file))[1:]
    return np.array([[int(word, 16) for word in row] for row in rows], np.uint32)


@pytest.fixture(scope="module")
def golden(data_dir):
    """Charges of the chip's test vectors, and the bits that it sent, by configuration."""
    words = hexadecimal(data_dir / "econt" / "testInput.csv")
    charge = np.empty((len(words), 48), np.float32)
    wafer.unpack(words, charge)

    def sent(configuration):
        frames = hexadecimal(data_dir / "econt" / configuration / "testOutput.csv")
        return np.unpackbits(frames.astype(">u4").view(np.uint8), axis=1)

    return charge, sent


def field(bits, first, width):
    return bits[:, first : first + width] @ (1 << np.arange(width)[::-1])


def fields(bits, first, width, count):
    return np.stack([field(bits, first + width * n, width) for n in range(count)], axis=1)


def decoded_float(code, mantissa, drop):
    """Return the centre of the bin of a code; zero for code 0."""
    exponent, fraction = np.divmod(code, 1 << mantissa)
    shift = np.maximum(exponent - 1, 0)
    low = np.where(exponent > 0, (1 << mantissa) + fraction, fraction) << shift << drop
    return np.where(code > 0, low + ((1 << (shift + drop)) - 1) / 2, 0.0)


@pytest.mark.parametrize(("configuration", "cells"), [("BC_1eTx", 1), ("BC_5eTx", 14)])
def test_best_choice_sends_what_the_chip_sends(golden, configuration, cells):
    charge, sent = golden
    bits = sent(configuration)
    decoded = np.empty_like(charge)
    codecs.best_choice(charge, cells, True, 3, decoded)
    start = 12 + (48 if cells >= 8 else 6 * cells)
    assert start + 7 * cells - 4 == codecs.best_choice_bits(cells)
    # Ties are broken otherwise, so which of two equal cells is sent may differ; what, may not.
    kept = np.sort(decoded_float(fields(bits, start, 7, cells), 3, 3))
    rest = decoded_float(field(bits, 4, 8), 3, 3) / (48 - cells)
    order = np.argsort(-charge - np.arange(48) * 1e-3, axis=1)
    ours = np.take_along_axis(decoded, order, axis=1)
    np.testing.assert_array_equal(np.sort(ours[:, :cells]), kept)
    np.testing.assert_allclose(
        ours[:, cells:], np.broadcast_to(rest[:, None], (len(ours), 48 - cells)), rtol=1e-6
    )


def test_super_trigger_cells_are_those_of_the_chip(golden):
    charge, sent = golden
    bits = sent("STC_type0_eTx3")
    decoded = np.empty_like(charge)
    codecs.super_trigger_cell(charge, NEIGHBOURS_IN_NUMBER, False, 0, decoded)
    address = fields(bits, 4, 2, 8)
    total = decoded_float(fields(bits, 4 + 16, 9, 8), 4, 0)
    expected = np.zeros((len(charge), 8, 4))
    np.put_along_axis(expected, address[:, :, None], total[:, :, None], axis=2)
    np.testing.assert_array_equal(decoded[:, :32].reshape(-1, 8, 4), expected)


def test_repeater_is_that_of_the_chip(golden):
    charge, sent = golden
    decoded = np.empty_like(charge)
    codecs.repeater(charge, 3, decoded)
    expected = decoded_float(fields(sent("RPT_13eTx"), 5, 7, 48), 3, 3)
    np.testing.assert_array_equal(decoded, expected)


@pytest.fixture(scope="module")
def occupied(data_dir):
    """Return the wafers of the published comparison: 3,000 with two cells above one particle."""
    path = data_dir / "calq" / "CALQ_output.csv"
    charge = np.loadtxt(path, np.float32, delimiter=",", skiprows=1)
    return charge[(charge > wafer.ADC_PER_MIPT).sum(axis=1) >= 2][:3000]


def mean_emd(charge, codec, *options):
    decoded = np.empty_like(charge)
    codec(charge, *options, -1, decoded)
    return np.nanmean(emd_pairs(charge, decoded))


@pytest.mark.parametrize(("cells", "expected"), [(4, 1.72), (6, 1.14), (9, 0.69), (14, 0.35)])
def test_published_distances_of_best_choice(occupied, cells, expected):
    assert mean_emd(occupied, codecs.best_choice, cells, False) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("groups", "expected"), [(codecs.GROUPS_OF_4, 0.62), (codecs.GROUPS_OF_16, 2.09)]
)
def test_published_distances_of_super_trigger_cells(occupied, groups, expected):
    got = mean_emd(occupied, codecs.super_trigger_cell, groups, False)
    assert got == pytest.approx(expected, abs=0.01)


def test_published_distance_of_threshold(occupied):
    decoded, bits = np.empty_like(occupied), np.empty(len(occupied), np.int64)
    codecs.threshold(occupied, codecs.THRESHOLD_ADC, False, -1, decoded, bits)
    distance = emd_pairs(occupied, decoded)
    # Wafers of which nothing is sent have none and are left out of the mean.
    np.testing.assert_array_equal(np.isnan(distance), ~decoded.any(axis=1))
    assert np.nanmean(distance) == pytest.approx(1.41, abs=0.01)


def test_sharing_out_the_rest_of_best_choice_brings_it_nearer(occupied):
    for cells in (4, 9):
        without = mean_emd(occupied, codecs.best_choice, cells, False)
        assert mean_emd(occupied, codecs.best_choice, cells, True) < 0.6 * without


def test_bits():
    used = [25, 64, 90, 123, 158, 186, 221, 256, 284, 319, 347, 382, 396]
    header = 4  # the number of the bunch crossing
    assert [header + codecs.best_choice_bits(n) for n in codecs.BEST_CHOICE_CELLS] == used
    assert codecs.super_trigger_cell_bits(4) == 12 * (9 + 2)
    assert codecs.super_trigger_cell_bits(16) == 3 * (9 + 4)
    assert codecs.REPEATER_BITS == 341 - 5


@pytest.mark.parametrize(("cells", "words"), [(0, 1), (1, 2), (6, 7), (7, 7), (8, 8), (48, 25)])
def test_threshold_bits(cells, words):
    charge = np.zeros((1, 48), np.float32)
    charge[0, :cells] = 100
    bits = np.empty(1, np.int64)
    codecs.threshold(charge, codecs.THRESHOLD_ADC, False, 3, np.empty_like(charge), bits)
    assert bits[0] == 16 * words - 5


def test_groups():
    for groups in (codecs.GROUPS_OF_4, codecs.GROUPS_OF_16):
        assert sorted(groups.ravel()) == list(range(48))
    assert codecs.GROUPS_OF_4[:4].tolist() == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [8, 9, 12, 13],
        [10, 11, 14, 15],
    ]
    for group in codecs.GROUPS_OF_4:
        assert wafer.DISTANCE[np.ix_(group, group)].max() < 3.5


def test_huge_charges_saturate():
    charge = np.array([[2**30, np.inf] * 24], np.float32)
    decoded = np.empty_like(charge)
    codecs.repeater(charge, 3, decoded)
    np.testing.assert_array_equal(decoded, np.float32((15 << 17) + (2**17 - 1) / 2))


def test_wrong_calls_are_refused():
    charge, decoded = np.zeros((2, 48), np.float32), np.empty((2, 47), np.float32)
    bits = np.empty(2, np.int64)
    with pytest.raises(ValueError, match="expected charge"):
        codecs.best_choice(charge, 4, False, 3, decoded)
    with pytest.raises(ValueError, match="expected charge"):
        codecs.repeater(charge, 3, decoded)
    with pytest.raises(ValueError, match="expected charge"):
        codecs.threshold(charge, 47.25, False, 3, decoded, bits)
    with pytest.raises(ValueError, match="expected bits"):
        codecs.threshold(charge, 47.25, False, 3, charge.copy(), bits[:1])
    with pytest.raises(ValueError, match="0 to 48"):
        codecs.best_choice(charge, 49, False, 3, charge.copy())
    for groups in (np.arange(44).reshape(11, 4), np.arange(1, 49).reshape(12, 4)):
        with pytest.raises(ValueError, match="expected groups"):
            codecs.super_trigger_cell(charge, groups, False, 3, charge.copy())
