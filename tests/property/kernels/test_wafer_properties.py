"""The wafer kernels against slow, obvious definitions."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sluice.kernels import wafer

ROWS = st.integers(0, 3)
ANY_FLOAT = st.floats(width=32)
BITS = st.integers(1, 16)


def table(columns, dtype, elements=None):
    return ROWS.flatmap(lambda n: hnp.arrays(dtype, (n, columns), elements=elements))


def decoded(code):
    exponent, mantissa = divmod(code, 8)
    if exponent == 0:
        return 8 * mantissa + 4
    return ((16 + 2 * mantissa + 1) << (exponent - 1)) << 2


def encoded(value, drop, exponent_bits, mantissa_bits):
    """Floating encoder of the chip's specification, section 3, on whole numbers."""
    exponent = max(0, value.bit_length() - mantissa_bits - drop)
    if exponent == 0:
        return value >> drop
    if exponent >= 1 << exponent_bits:
        return (1 << (exponent_bits + mantissa_bits)) - 1
    mantissa = (value >> (drop + exponent - 1)) & ((1 << mantissa_bits) - 1)
    return (exponent << mantissa_bits) | mantissa


def whole(value):
    """Return the whole number below a float: 0 where there is none, huge for infinity."""
    if math.isnan(value) or value < 0:
        return 0
    return 1 << 200 if math.isinf(value) else math.floor(value)


def decoded_sum(code):
    return code if code < 16 else (16 + code % 16) << (code // 16 - 1)


def test_unpack_is_its_definition(implementation):
    kernels = implementation.kernels("wafer")

    def holds(words):
        charge = np.empty((len(words), 48), np.float32)
        kernels.unpack(words, charge)
        expected = [
            [decoded((int(word) >> shift) & 127) for word in row for shift in (21, 14, 7, 0)]
            for row in words
        ]
        np.testing.assert_array_equal(charge, np.reshape(expected, charge.shape))

    implementation.check(holds, table(12, np.uint32))


@given(table(48, np.uint8, st.integers(0, 127)), st.integers(0, 15), st.booleans())
def test_packed_codes_come_back(codes, nibble, as_integers):
    rows = len(codes)
    charge = np.array([[decoded(int(code)) for code in row] for row in codes])
    charge = charge.reshape(rows, 48).astype(np.uint32 if as_integers else np.float32)
    words, again = np.empty((rows, 12), np.uint32), np.empty((rows, 48), np.uint8)
    wafer.pack_words(charge, np.full(rows, nibble, np.uint8), words)
    back = np.empty((rows, 48), np.float32)
    wafer.unpack(words, back)
    wafer.encode_charge(back, again)
    np.testing.assert_array_equal(words >> 28, nibble)
    np.testing.assert_array_equal(back, charge)
    np.testing.assert_array_equal(again, codes)


def test_every_code_survives_the_round_trip():
    codes = np.arange(144, dtype=np.uint8).reshape(3, 48) % 128
    charge = np.array([[decoded(int(c)) for c in row] for row in codes], np.float32)
    again = np.empty_like(codes)
    wafer.encode_charge(charge, again)
    np.testing.assert_array_equal(again, codes)


@given(table(48, np.float32, ANY_FLOAT) | table(48, np.uint32))
def test_encode_charge_is_its_definition(charge):
    code = np.empty(charge.shape, np.uint8)
    wafer.encode_charge(charge, code)
    expected = [[encoded(whole(float(value)), 3, 4, 3) for value in row] for row in charge]
    np.testing.assert_array_equal(code, np.reshape(expected, code.shape))


COUNTS = st.integers(0, 2**22).map(float)
CHARGES = st.one_of(COUNTS, st.floats(0, 2.0**21, width=32), ANY_FLOAT, st.just(-0.0))
SCALES = st.floats(0, 2.0**120, width=32)


def test_normalise_is_its_definition(implementation):
    kernels = implementation.kernels("wafer")

    def holds(charge):
        rows = len(charge)
        image = np.full((rows, 8, 8), np.nan, np.float32)
        charge_sum, status = np.full(rows, np.nan, np.float32), np.full(rows, 99, np.uint8)
        kernels.normalise(charge, image, charge_sum, status)
        for n, row in enumerate(charge.astype(np.float64)):
            # Exact but for the order of additions, which moves only the last bits of the sum.
            total = math.fsum(row) if np.isfinite(row).all() else math.nan
            if not abs(total) < 2.0**127:
                expected = wafer.NOT_FINITE
            else:
                expected = wafer.NEGATIVE if (row < 0).any() else wafer.OK
            assert status[n] == expected
            if expected != wafer.OK or total < 2.0**-126:
                assert charge_sum[n] == 0
                assert not image[n].any()
                continue
            assert abs(charge_sum[n] - total) <= total * 2.0**-23
            scale = 2.0 ** (math.frexp(float(charge_sum[n]))[1] - 1)
            flat = np.zeros(64, np.float32)
            flat[wafer.REMAP_8X8] = (row / scale).astype(np.float32)
            np.testing.assert_array_equal(image[n].ravel(), flat)

    implementation.check(holds, table(48, np.float32, CHARGES) | table(48, np.float32, SCALES))


def test_sums_of_counts_are_exact_up_to_truncation(implementation):
    kernels = implementation.kernels("wafer")

    def holds(charge):
        rows = len(charge)
        image, status = np.empty((rows, 8, 8), np.float32), np.empty(rows, np.uint8)
        charge_sum = np.empty(rows, np.float32)
        kernels.normalise(charge, image, charge_sum, status)
        for n, row in enumerate(charge):
            total = sum(int(value) for value in row)
            drop = max(0, total.bit_length() - 24)
            assert int(charge_sum[n]) == (total >> drop) << drop

    implementation.check(holds, table(48, np.float32, COUNTS))


LATENTS = st.one_of(
    st.floats(-0.5, 2.5, width=32),
    st.integers(-3, 1100).map(lambda code: code / 512),
    BITS.map(lambda bits: float(np.nextafter(np.float32(2.0**-bits), np.float32(0)))),
    ANY_FLOAT,
)


@st.composite
def records(draw):
    latent = draw(table(16, np.float32, LATENTS))
    sums = st.one_of(st.floats(0, 1e6, width=32), ANY_FLOAT)
    return latent, draw(hnp.arrays(np.float32, len(latent), elements=sums)), draw(BITS)


def latent_code(value, bits):
    if math.isnan(value):
        return 0
    clipped = min(max(value, -1.0), 3.0)
    return min(max(math.floor(clipped * 2 ** (bits - 1) + 0.5), 0), 2**bits - 1)


def test_quantise_pack_is_its_definition_and_inverts(implementation):
    kernels = implementation.kernels("wafer")

    def holds(record):
        latent, charge_sum, bits = record
        rows, size = len(latent), wafer.packed_bytes(bits)
        packed = np.full((rows, size), 0xAA, np.uint8)
        latent_q, sum_q = np.empty((rows, 16), np.float32), np.empty(rows, np.float32)
        kernels.quantise_pack(latent, charge_sum, bits, packed, latent_q, sum_q)
        for n in range(rows):
            code = encoded(whole(float(charge_sum[n])), 0, 5, 4)
            codes = [latent_code(float(value), bits) for value in latent[n]]
            stream = f"{code:09b}" + "".join(f"{c:0{bits}b}" for c in codes)
            stream = stream.ljust(8 * size, "0")
            assert packed[n].tobytes() == int(stream, 2).to_bytes(size, "big")
            assert sum_q[n] == decoded_sum(code)
            assert latent_q[n].tolist() == [c / 2 ** (bits - 1) for c in codes]
        latent_back, sum_back = np.empty_like(latent_q), np.empty_like(sum_q)
        kernels.unpack_latents(packed, bits, latent_back, sum_back)
        np.testing.assert_array_equal(latent_back, latent_q)
        np.testing.assert_array_equal(sum_back, sum_q)

    implementation.check(holds, records())
