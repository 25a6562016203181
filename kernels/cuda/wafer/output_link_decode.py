"""The far end of the wafer's output link on a GPU: packed records to module sums and latents."""

from typing import Any

import numpy as np
from numba import cuda

from sluice.kernels.cuda import launch
from sluice.kernels.cuda.intrinsics import load4, store4
from sluice.kernels.cuda.launch import DeviceArray, Stream
from sluice.kernels.wafer.output_link import SUM_BITS, packed_bytes

from .output_link import decode_sum

# Four threads take a wafer.
_THREADS = launch.threads(128)
_WAFERS = _THREADS // 4
# One more than the records have, since a window reaches into the words behind.
_MAX_WORDS = _WAFERS * packed_bytes(16) // 4 + 2


@launch.building_block
def _word(packed: Any, start: Any, at: Any, end: Any) -> Any:
    """Return bytes `at` to `at` + 3 of a block, the first highest, 0 from `end` on."""
    if at + 4 <= end:
        a, b, c, d = load4(packed, start + at)
    else:
        a = packed[start + at] if at < end else np.uint8(0)
        b = packed[start + at + 1] if at + 1 < end else np.uint8(0)
        c = packed[start + at + 2] if at + 2 < end else np.uint8(0)
        d = np.uint8(0)
    high = (np.uint32(a) << np.uint32(24)) | (np.uint32(b) << np.uint32(16))
    return np.uint32(high | (np.uint32(c) << np.uint32(8)) | np.uint32(d))


@launch.building_block
def _field(words: Any, at: Any, bits: Any) -> Any:
    """Return `bits` bits from bit `at` on."""
    first, skipped = at >> 5, np.uint64(at & 31)
    high = (np.uint64(words[first]) << np.uint64(32)) | np.uint64(words[first + 1])
    low = np.uint64(words[first + 2]) >> np.uint64(np.uint64(32) - skipped)
    return ((high << skipped) | low) >> np.uint64(64 - bits)


@launch.kernel(
    "u1[], i4, f4[], f4[], i8",
    threads=128,
    resident=16,
    traffic=launch.Traffic("wafer, 9 bits", 20, 68),
)
def _unpack_latents(packed: Any, bits: Any, latent_q: Any, sum_q: Any, rows: Any) -> None:
    words = cuda.shared.array(_MAX_WORDS, np.uint32)
    me = cuda.threadIdx.x
    size = (SUM_BITS + 16 * bits + 7) // 8
    first = cuda.blockIdx.x * _WAFERS
    end = min(rows - first, _WAFERS) * size
    for at in range(me, _WAFERS * size // 4 + 2, _THREADS):
        words[at] = _word(packed, first * size, 4 * at, end)
    cuda.syncthreads()
    wafer, quarter = me // 4, me % 4
    n = first + wafer
    if n < rows:
        start = 8 * size * wafer
        lsb = np.float32(np.float32(1) / np.float32(1 << (bits - 1)))
        four = _field(words, start + SUM_BITS + 4 * bits * quarter, 4 * bits)
        one = np.uint64((1 << bits) - 1)
        shift = np.uint64(bits)
        store4(
            latent_q,
            16 * n + 4 * quarter,
            np.float32(np.float32((four >> np.uint64(3 * bits)) & one) * lsb),
            np.float32(np.float32((four >> np.uint64(2 * bits)) & one) * lsb),
            np.float32(np.float32((four >> shift) & one) * lsb),
            np.float32(np.float32(four & one) * lsb),
        )
        if quarter == 0:
            sum_q[n] = decode_sum(np.int64(_field(words, start, SUM_BITS)))


def unpack_latents(
    packed: DeviceArray,
    bits: int,
    latent_q: DeviceArray,
    sum_q: DeviceArray,
    *,
    stream: Stream = 0,
) -> None:
    """Unpack what `quantise_pack` packed, as `sluice.kernels.wafer.unpack_latents` does.

    A block reads its records in words, 128 bytes a warp, into shared memory. A thread takes four
    latents from there: a warp writes 512 bytes in a row.

    Parameters
    ----------
    packed : uint8 device array, shape (N, packed_bytes(bits))
    bits : int
        Bits of a latent, 1 to 16.
    latent_q : float32 device array, shape (N, 16)
        Output, dimensionless.
    sum_q : float32 device array, shape (N,)
        Output, transverse ADC counts.
    stream : stream
        CUDA stream: an object of numba, or the stream's address.
    """
    if not 1 <= bits <= 16:
        raise ValueError("unpack_latents: bits must be 1 to 16")
    rows = launch.shape(packed)[0]
    _unpack_latents(
        -(-rows // _WAFERS),
        stream,
        launch.flat("unpack_latents: packed", packed, "u1", (rows, packed_bytes(bits))),
        bits,
        launch.flat("unpack_latents: latent_q", latent_q, "f4", (rows, 16)),
        launch.flat("unpack_latents: sum_q", sum_q, "f4", (rows,)),
        rows,
    )
