"""The wafer's output link: module sum and quantised latents, packed bit by bit."""

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import (
    device_function,
    input_array,
    kernel,
    output_array,
    overloadable,
    scalar,
)

from .simd import quantise

SUM_BITS = 9
"""Bits of the module sum (5-bit exponent, 4-bit mantissa)."""

_LATENTS = 16
_SUM_MAX = 511
_SUM_BIAS = 130 << 4


@overloadable
def packed_bits(bits: int) -> int:
    """Return the bits of one packed wafer: the module sum and 16 latents of `bits` bits."""
    return SUM_BITS + _LATENTS * bits


@overloadable
def packed_bytes(bits: int) -> int:
    """Return the bytes of one packed wafer, the last one padded with zero bits."""
    return (packed_bits(bits) + 7) // 8


@device_function
def _encode_sum(charge_sum: np.float32) -> int:
    if not charge_sum >= np.float32(16):
        return int(charge_sum) if charge_sum > np.float32(0) else 0
    # Exponent and leading mantissa bits of a float32 are the code, up to the bias.
    pattern = np.float32(charge_sum).view(np.uint32)
    return min(int(np.int64(pattern >> np.uint32(19))) - _SUM_BIAS, _SUM_MAX)


@device_function
def decode_sum(code: int) -> np.float32:
    """Return the module sum, in transverse ADC counts, of a 9-bit code (the bottom of its bin)."""
    if code < 16:
        return np.float32(code)
    pattern = np.uint32((code + _SUM_BIAS) << 19)
    decoded: np.float32 = pattern.view(np.float32)
    return decoded


@device_function
def _store(packed: NDArray[np.uint8], at: np.uint64, word: np.uint64) -> None:
    for b in range(8):
        packed[at + np.uint64(b)] = np.uint8(word >> np.uint64(56 - 8 * b))


@device_function
def _pack(
    latent: NDArray[np.float32],
    charge_sum: NDArray[np.float32],
    bits: int,
    packed: NDArray[np.uint8],
    latent_q: NDArray[np.float32],
    sum_q: NDArray[np.float32],
) -> None:
    # Unsigned throughout: signed indices would cost a wrap-around check each, and the byte stores
    # would not merge into one.
    width, full, eight = np.uint64(4 * bits), np.uint64(64), np.uint64(8)
    scale = np.float32(1 << (bits - 1))
    lsb = np.float32(1) / scale
    stride = np.uint64(packed_bytes(bits))
    values, codes, out = (
        latent.reshape(latent.size), latent_q.reshape(latent_q.size), packed.reshape(packed.size)
    )  # fmt: skip
    for n in range(charge_sum.size):
        code = _encode_sum(charge_sum[n])
        sum_q[n] = decode_sum(code)
        word, fill = np.uint64(code) << np.uint64(55), np.uint64(9)
        at = np.uint64(n) * stride
        fours = quantise(values, np.int64(16 * n), np.int64(bits), scale, lsb, codes)
        for g in range(4):
            four = fours[g] << (full - width)
            word |= four >> fill
            fill += width
            if fill >= full:
                _store(out, at, word)
                at += eight
                fill -= full
                # A shift by 64 is undefined, and would be one where the word ended just here.
                word = four << (width - fill) if fill else np.uint64(0)
        if at + eight <= np.uint64(out.size):
            # The next record overwrites the bytes beyond this one.
            _store(out, at, word)
            continue
        for _ in range((fill + np.uint64(7)) >> np.uint64(3)):
            out[at] = np.uint8(word >> np.uint64(56))
            word <<= np.uint64(8)
            at += np.uint64(1)


@kernel(
    (
        input_array("f4", 2),
        input_array("f4", 1),
        scalar("i8"),
        output_array("u1", 2),
        output_array("f4", 2),
        output_array("f4", 1),
    )
)
def quantise_pack(
    latent: NDArray[np.float32],
    charge_sum: NDArray[np.float32],
    bits: int,
    packed: NDArray[np.uint8],
    latent_q: NDArray[np.float32],
    sum_q: NDArray[np.float32],
) -> None:
    """Quantise latents and module sums of N wafers and pack them for the link.

    A latent becomes the unsigned fixed-point code floor(x * 2**(bits-1) + 0.5), clipped to `bits`
    bits (one integer bit; half rounds up, NaN becomes 0). A record is the 9-bit truncating code of
    the module sum, then the 16 codes, all most significant bit first, zero padded to whole bytes.

    Parameters
    ----------
    latent : float32 array, shape (N, 16)
        Encoder outputs, dimensionless.
    charge_sum : float32 array, shape (N,)
        Transverse ADC counts; negative numbers and NaN become 0, the largest code is 31 << 30.
    bits : int
        Bits of a latent, 1 to 16; the links carry 3, 5, 7 or 9.
    packed : uint8 array, shape (N, packed_bytes(bits))
        Output.
    latent_q : float32 array, shape (N, 16)
        Output: the latents as the receiver will see them.
    sum_q : float32 array, shape (N,)
        Output: the module sums as the receiver will see them, transverse ADC counts.

    Raises
    ------
    ValueError
        If `bits` is out of range or the shapes do not fit.

    References
    ----------
    ECON-T autoencoder output ("5E4M" module sum, 9-bit ReLU latents); arXiv:2105.01683.
    """
    rows = latent.shape[0]
    if not 1 <= bits <= 16:
        raise ValueError("quantise_pack: bits must be 1 to 16")
    if latent.shape[1] != 16 or latent_q.shape != latent.shape or charge_sum.shape[0] != rows:
        raise ValueError("quantise_pack: expected latent, latent_q (N, 16) and charge_sum (N,)")
    if packed.shape != (rows, packed_bytes(bits)) or sum_q.shape[0] != rows:
        raise ValueError("quantise_pack: expected packed (N, packed_bytes(bits)) and sum_q (N,)")
    _pack(latent, charge_sum, bits, packed, latent_q, sum_q)
