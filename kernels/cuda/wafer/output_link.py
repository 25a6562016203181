"""The wafer's output link on a GPU: module sum and quantised latents, packed bit by bit."""

from typing import Any

import numpy as np
from numba import cuda

from sluice.kernels.cuda import launch
from sluice.kernels.cuda.intrinsics import bits_of, float_of, load4, store4
from sluice.kernels.cuda.launch import DeviceArray, Stream
from sluice.kernels.wafer.output_link import SUM_BITS, packed_bytes

# Four threads take a wafer.
_THREADS = launch.threads(128)
_WAFERS = _THREADS // 4
_MAX_WORDS = _WAFERS * packed_bytes(16) // 4
_SUM_BIAS = 130 << 4
_SUM_MAX = 511


@launch.building_block
def _encode_sum(charge_sum: Any) -> Any:
    if not charge_sum >= np.float32(16):
        return np.int32(charge_sum) if charge_sum > np.float32(0) else np.int32(0)
    code = np.int64(bits_of(charge_sum) >> np.uint32(19)) - _SUM_BIAS
    return np.int32(_SUM_MAX if code > _SUM_MAX else code)


@launch.building_block
def decode_sum(code: Any) -> Any:
    """Return the module sum, in transverse ADC counts, of a 9-bit code (the bottom of its bin)."""
    if code < 16:
        return np.float32(code)
    return float_of(np.uint32((code + _SUM_BIAS) << 19))


@launch.building_block
def _quantised(latent: Any, scale: Any, largest: Any) -> Any:
    # Clipped first, so that all that follows is exact; NaN and negative numbers become 0.
    clipped = latent if latent > np.float32(0) else np.float32(0)
    clipped = clipped if clipped < np.float32(2) else np.float32(2)
    scaled = np.float32(clipped * scale)
    below = np.int32(scaled)
    up = np.float32(scaled - np.float32(below)) >= np.float32(0.5)
    return np.int32(min(below + 1 if up else below, largest))


@launch.building_block
def window(at: Any, number: Any, bits: Any) -> Any:
    """Return where a number of so many bits lies from bit `at` on: first word, and three words.

    The first bit is the highest of the first word.
    """
    skipped = np.uint64(at & 31)
    top = np.uint64(number) << np.uint64(64 - bits)
    high = np.uint32(top >> np.uint64(np.uint64(32) + skipped))
    middle = np.uint32((top >> skipped) & np.uint64(0xFFFFFFFF))
    low = np.uint32((top << np.uint64(np.uint64(32) - skipped)) & np.uint64(0xFFFFFFFF))
    return at >> 5, high, middle, low


@launch.building_block
def _merge(words: Any, at: Any, high: Any, middle: Any, low: Any) -> None:
    cuda.atomic.or_(words, at, high)
    # What reaches into the next words; the last of all has none behind it.
    if middle != 0:
        cuda.atomic.or_(words, at + 1, middle)
    if low != 0:
        cuda.atomic.or_(words, at + 2, low)


@launch.building_block
def _write(packed: Any, start: Any, at: Any, end: Any, word: Any) -> None:
    """Write bytes `at` to `at` + 3 of a block, the highest first, but none from `end` on."""
    a, b = np.uint8(word >> np.uint32(24)), np.uint8((word >> np.uint32(16)) & np.uint32(255))
    c, d = np.uint8((word >> np.uint32(8)) & np.uint32(255)), np.uint8(word & np.uint32(255))
    if at + 4 <= end:
        store4(packed, start + at, a, b, c, d)
        return
    packed[start + at] = a
    if at + 1 < end:
        packed[start + at + 1] = b
    if at + 2 < end:
        packed[start + at + 2] = c


@launch.kernel(
    "f4[], f4[], i4, u1[], f4[], f4[], i8",
    threads=128,
    resident=16,
    traffic=launch.Traffic("wafer, 9 bits", 68, 88),
)
def _quantise_pack(
    latent: Any, charge_sum: Any, bits: Any, packed: Any, latent_q: Any, sum_q: Any, rows: Any
) -> None:
    words = cuda.shared.array(_MAX_WORDS, np.uint32)
    me = cuda.threadIdx.x
    size = (9 + 16 * bits + 7) // 8
    for at in range(me, _WAFERS * size // 4, _THREADS):
        words[at] = 0
    cuda.syncthreads()
    first = cuda.blockIdx.x * _WAFERS
    wafer, quarter = me // 4, me % 4
    n = first + wafer
    if n < rows:
        scale, largest = np.float32(1 << (bits - 1)), np.int32((1 << bits) - 1)
        a, b, c, d = load4(latent, 16 * n + 4 * quarter)
        i, j = _quantised(a, scale, largest), _quantised(b, scale, largest)
        k, m = _quantised(c, scale, largest), _quantised(d, scale, largest)
        lsb = np.float32(np.float32(1) / scale)
        store4(
            latent_q,
            16 * n + 4 * quarter,
            np.float32(np.float32(i) * lsb),
            np.float32(np.float32(j) * lsb),
            np.float32(np.float32(k) * lsb),
            np.float32(np.float32(m) * lsb),
        )
        start = 8 * size * wafer
        pair = np.uint64((np.int64(i) << bits) | np.int64(j))
        four = (pair << np.uint64(2 * bits)) | np.uint64((np.int64(k) << bits) | np.int64(m))
        at, high, middle, low = window(start + SUM_BITS + 4 * bits * quarter, four, 4 * bits)
        _merge(words, at, high, middle, low)
        if quarter == 0:
            code = _encode_sum(charge_sum[n])
            sum_q[n] = decode_sum(code)
            at, high, middle, low = window(start, code, SUM_BITS)
            _merge(words, at, high, middle, low)
    cuda.syncthreads()
    end = min(rows - first, _WAFERS) * size
    for at in range(me, (end + 3) // 4, _THREADS):
        _write(packed, first * size, 4 * at, end, words[at])


def quantise_pack(
    latent: DeviceArray,
    charge_sum: DeviceArray,
    bits: int,
    packed: DeviceArray,
    latent_q: DeviceArray,
    sum_q: DeviceArray,
    *,
    stream: Stream = 0,
) -> None:
    """Quantise and pack N wafers for the link, as `sluice.kernels.wafer.quantise_pack` does.

    A thread takes four latents: a warp reads 512 bytes in a row and writes 512. Bits meet in shared
    memory, since the records of a block lie in a row; the block writes them in words, 128 bytes a
    warp.

    Parameters
    ----------
    latent : float32 device array, shape (N, 16)
        Encoder outputs, dimensionless.
    charge_sum : float32 device array, shape (N,)
        Transverse ADC counts.
    bits : int
        Bits of a latent, 1 to 16.
    packed : uint8 device array, shape (N, packed_bytes(bits))
        Output.
    latent_q : float32 device array, shape (N, 16)
        Output: the latents as the receiver will see them.
    sum_q : float32 device array, shape (N,)
        Output: the module sums as the receiver will see them.
    stream : stream
        CUDA stream: an object of numba, or the stream's address.
    """
    if not 1 <= bits <= 16:
        raise ValueError("quantise_pack: bits must be 1 to 16")
    rows = launch.shape(latent)[0]
    _quantise_pack(
        -(-rows // _WAFERS),
        stream,
        launch.flat("quantise_pack: latent", latent, "f4", (rows, 16)),
        launch.flat("quantise_pack: charge_sum", charge_sum, "f4", (rows,)),
        bits,
        launch.flat("quantise_pack: packed", packed, "u1", (rows, packed_bytes(bits))),
        launch.flat("quantise_pack: latent_q", latent_q, "f4", (rows, 16)),
        launch.flat("quantise_pack: sum_q", sum_q, "f4", (rows,)),
        rows,
    )
