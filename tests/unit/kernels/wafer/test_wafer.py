"""The wafer kernels on literal numbers from the chip's specification and its golden vectors."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from sluice.kernels import wafer

# Crossing 1 of the chip's golden vectors: input words, decoded charges, module sum.
WORDS = (
    "a2e417a2 a3c74899 a4a38c28 a5298dab a3c68e1b a3cc039a "
    "a148820b a2a74c21 a441cd8e a407d81b a4a60c14 a464d41a"
)
CHARGE = [248, 136, 1984, 672, 464, 432, 152, 304, 864, 116, 272, 1088, 1216, 928, 368, 1472]
CHARGE += [464, 336, 400, 368, 464, 2176, 60, 336, 84, 672, 36, 92, 216, 432, 272, 608]
CHARGE += [672, 60, 368, 116, 544, 496, 2176, 368, 864, 272, 272, 200, 736, 184, 1088, 336]


@pytest.fixture
def words():
    return np.array([[int(word, 16) for word in WORDS.split()]], dtype=np.uint32)


@pytest.fixture
def charge():
    return np.array([CHARGE], dtype=np.float32)


def normalised(charge):
    rows = len(charge)
    image = np.full((rows, 8, 8), 9, np.float32)
    charge_sum, status = np.full(rows, 9, np.float32), np.full(rows, 9, np.uint8)
    wafer.normalise(charge, image, charge_sum, status)
    return image, charge_sum, status


def packed_sum(charge_sum, bits=9):
    rows = len(charge_sum)
    packed = np.empty((rows, wafer.packed_bytes(bits)), np.uint8)
    latent_q, sum_q = np.empty((rows, 16), np.float32), np.empty(rows, np.float32)
    latent = np.zeros((rows, 16), np.float32)
    wafer.quantise_pack(latent, charge_sum, bits, packed, latent_q, sum_q)
    return (packed[:, 0].astype(int) << 1) | (packed[:, 1] >> 7), sum_q


def test_unpack_reproduces_the_golden_crossing(words):
    charge = np.empty((1, 48), np.float32)
    wafer.unpack(words, charge)
    assert charge[0].tolist() == CHARGE


def test_pack_words_reproduces_the_golden_crossing(words, charge):
    out = np.empty((1, 12), np.uint32)
    wafer.pack_words(charge, np.array([0xA], np.uint8), out)
    np.testing.assert_array_equal(out, words)
    wafer.pack_words(charge.astype(np.uint32), np.array([0xFA], np.uint8), out)
    np.testing.assert_array_equal(out, words)


@pytest.mark.parametrize(
    ("charge", "code"),
    [
        *[(16, 2), (31, 3), (32, 4), (100, 12), (1000, 39), (65535, 87), (262143, 103)],
        *[(0, 0), (7.9, 0), (8, 1), (2031616, 127), (2097152, 127), (math.inf, 127)],
        *[(math.nan, 0), (-1, 0), (-math.inf, 0)],
    ],
)
def test_encode_charge_anchors(charge, code):
    out = np.empty((1, 48), np.uint8)
    wafer.encode_charge(np.full((1, 48), charge, np.float32), out)
    assert set(out.ravel().tolist()) == {code}


def test_largest_unsigned_charge_saturates():
    out = np.empty((1, 48), np.uint8)
    wafer.encode_charge(np.full((1, 48), 2**32 - 1, np.uint32), out)
    assert set(out.ravel().tolist()) == {127}


def test_normalise_golden_crossing(charge):
    image, charge_sum, status = normalised(charge)
    assert charge_sum[0] == 26484
    assert status[0] == wafer.OK
    np.testing.assert_array_equal(image.ravel()[wafer.REMAP_8X8] * 2**14, charge[0])
    assert 1 <= image.sum() < 2
    assert not image[0, 4:, 4:].any()


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        ({0: math.nan}, wafer.NOT_FINITE),
        ({47: math.inf}, wafer.NOT_FINITE),
        ({3: -math.inf}, wafer.NOT_FINITE),
        ({3: -math.inf, 4: math.inf}, wafer.NOT_FINITE),
        ({3: -1.0, 4: math.nan}, wafer.NOT_FINITE),
        ({3: 3e38}, wafer.NOT_FINITE),
        ({31: -1e-30}, wafer.NEGATIVE),
        ({0: -1e9}, wafer.NEGATIVE),
    ],
)
def test_normalise_blanks_only_the_bad_wafer(charge, bad, status):
    batch = np.repeat(charge, 3, axis=0)
    for cell, value in bad.items():
        batch[1, cell] = value
    image, charge_sum, got = normalised(batch)
    assert got.tolist() == [wafer.OK, status, wafer.OK]
    assert charge_sum.tolist() == [26484, 0, 26484]
    assert not image[1].any()
    np.testing.assert_array_equal(image[0], image[2])


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45])
def test_an_empty_wafer_is_ok(value):
    image, charge_sum, status = normalised(np.full((1, 48), value, np.float32))
    assert (status[0], charge_sum[0], image.any()) == (wafer.OK, 0, False)


def test_sum_is_truncated_so_that_its_code_is_the_chips():
    charge = np.zeros((1, 48), np.float32)
    charge[0, :3] = 2**24, 2**23, 2**23 - 1  # 2**25 - 1, which float32 would round up to 2**25
    _, charge_sum, _ = normalised(charge)
    assert charge_sum[0] == 2**25 - 2
    assert packed_sum(charge_sum)[0] == (21 << 4) | 15


@pytest.mark.parametrize(
    ("total", "code", "decoded"),
    [
        *[(26484, 0xB9, 25600), (0, 0, 0), (0.9, 0, 0), (15.9, 15, 15), (16, 16, 16), (33, 32, 32)],
        *[(2**35, 511, 31 << 30), (math.inf, 511, 31 << 30), (math.nan, 0, 0), (-5, 0, 0)],
    ],
)
def test_module_sum_anchors(total, code, decoded):
    got, sum_q = packed_sum(np.array([total], np.float32))
    assert (got[0], sum_q[0]) == (code, decoded)


def test_quantise_pack_layout():
    latent = np.zeros((1, 16), np.float32)
    latent[0, :5] = 1 / 256, 1.0, 5.0, -1.0, math.nan
    latent[0, 15] = 1 / 256
    packed, latent_q = np.empty((1, 20), np.uint8), np.empty((1, 16), np.float32)
    sum_q = np.empty(1, np.float32)
    wafer.quantise_pack(latent, np.array([26484], np.float32), 9, packed, latent_q, sum_q)
    expected = f"{0xB9:09b}" + f"{1:09b}" + f"{256:09b}" + f"{511:09b}" + "0" * 108 + f"{1:09b}"
    assert "".join(f"{byte:08b}" for byte in packed[0]) == expected + "0000000"
    assert latent_q[0, :5].tolist() == [1 / 256, 1.0, 511 / 256, 0.0, 0.0]


@pytest.mark.parametrize(
    ("bits", "size", "octets"), [(3, 57, 8), (5, 89, 12), (7, 121, 16), (9, 153, 20)]
)
def test_packed_sizes(bits, size, octets):
    assert wafer.packed_bits(bits) == size
    assert wafer.packed_bytes(bits) == octets


@pytest.mark.parametrize("bits", [0, 17, -1])
def test_impossible_bits_are_refused(bits):
    latent, one = np.zeros((1, 16), np.float32), np.zeros(1, np.float32)
    packed = np.zeros((1, 20), np.uint8)
    with pytest.raises(ValueError, match="bits must be 1 to 16"):
        wafer.quantise_pack(latent, one, bits, packed, latent.copy(), one.copy())
    with pytest.raises(ValueError, match="bits must be 1 to 16"):
        wafer.unpack_latents(packed, bits, latent, one)


def test_wrong_shapes_are_refused():
    def zeros(*shape, dtype=np.float32):
        return np.zeros(shape, dtype)

    words, octets = zeros(2, 12, dtype=np.uint32), zeros(2, 20, dtype=np.uint8)
    with pytest.raises(ValueError, match="expected words"):
        wafer.unpack(words, zeros(1, 48))
    with pytest.raises(ValueError, match="expected charge"):
        wafer.encode_charge(zeros(2, 48), zeros(2, 47, dtype=np.uint8))
    with pytest.raises(ValueError, match="expected charge"):
        wafer.pack_words(zeros(2, 48), zeros(1, dtype=np.uint8), words)
    with pytest.raises(ValueError, match="expected charge"):
        wafer.normalise(zeros(2, 48), zeros(2, 8, 7), zeros(2), zeros(2, dtype=np.uint8))
    with pytest.raises(ValueError, match="expected charge_sum"):
        wafer.normalise(zeros(2, 48), zeros(2, 8, 8), zeros(1), zeros(2, dtype=np.uint8))
    with pytest.raises(ValueError, match="expected latent"):
        wafer.quantise_pack(zeros(2, 15), zeros(2), 9, octets, zeros(2, 15), zeros(2))
    with pytest.raises(ValueError, match="expected packed"):
        wafer.quantise_pack(zeros(2, 16), zeros(2), 7, octets, zeros(2, 16), zeros(2))
    with pytest.raises(ValueError, match="expected packed"):
        wafer.unpack_latents(octets, 7, zeros(2, 16), zeros(2))
    with pytest.raises(ValueError, match="expected latent_q"):
        wafer.unpack_latents(octets, 9, zeros(1, 16), zeros(2))


def test_other_layouts_and_dtypes_are_refused_not_converted(words):
    charge = np.empty((2, 48), np.float32)
    with pytest.raises(TypeError, match="No matching definition"):
        wafer.unpack(np.repeat(words, 4, axis=0)[::2], charge)
    with pytest.raises(TypeError, match="No matching definition"):
        wafer.unpack(words.astype(np.uint64), charge)
    charge.flags.writeable = False
    with pytest.raises(TypeError, match="No matching definition"):
        wafer.unpack(words, charge)


def test_read_only_and_unaligned_inputs_are_read_in_place(words):
    view = np.frombuffer(b"?" + words.tobytes(), np.uint32, offset=1).reshape(1, 12)
    assert not view.flags.aligned
    assert not view.flags.writeable
    charge = np.empty((1, 48), np.float32)
    wafer.unpack(view, charge)
    assert charge[0].tolist() == CHARGE


def test_geometry():
    distance = wafer.DISTANCE
    np.testing.assert_array_equal(distance, distance.T)
    assert distance.max() == pytest.approx(13.756812, abs=1e-6)
    assert distance[0, 1] == pytest.approx(2.0, abs=1e-6)
    assert distance[3, 16] == pytest.approx(7.365452, abs=1e-6)
    assert 1.8 < np.where(distance > 0, distance, np.inf).min(axis=1).min() < 2.0
    np.testing.assert_array_equal(np.hypot(wafer.CELL_X, wafer.CELL_Y), distance[0])
    assert wafer.MASK_8X8.sum() == wafer.CELLS
    np.testing.assert_array_equal(wafer.ARRANGE_8X8.ravel()[wafer.REMAP_8X8], range(48))
    assert wafer.REMAP_8X8[[0, 1, 16, 32, 47]].tolist() == [4, 12, 24, 59, 32]
    with pytest.raises(ValueError, match="read-only"):
        distance[0, 0] = 1


def test_module_sums_of_the_chips_golden_vectors(data_dir: Path):
    def table(name):
        with (data_dir / "econt" / name).open() as file:
            rows = list(csv.reader(file))[1:]
        return np.array([[int(word, 16) for word in row] for row in rows], dtype=np.uint32)

    words, golden = table("testInput.csv"), table("AE/testOutput.csv")
    charge = np.empty((len(words), 48), np.float32)
    wafer.unpack(words, charge)
    _, charge_sum, status = normalised(charge)
    assert len(words) == 3564
    assert not status.any()
    np.testing.assert_array_equal(packed_sum(charge_sum)[0], (golden[:, 0] >> 18) & 511)
    repacked = np.empty_like(words)
    wafer.pack_words(charge, (words[:, 0] >> 28).astype(np.uint8), repacked)
    np.testing.assert_array_equal(repacked, words)
