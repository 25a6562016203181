"""The far end of the wafer's output link: packed records to module sums and latents."""

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import device_function, input_array, kernel, output_array, scalar

from .output_link import decode_sum, packed_bytes


@device_function
def _field(packed: NDArray[np.uint8], n: int, start: int, bits: int) -> int:
    field = 0
    for at in range(start >> 3, (start + bits + 7) >> 3):
        field = (field << 8) | int(np.int64(packed[n, at]))
    return (field >> (-(start + bits) & 7)) & ((1 << bits) - 1)


@kernel((input_array("u1", 2), scalar("i8"), output_array("f4", 2), output_array("f4", 1)))
def unpack_latents(
    packed: NDArray[np.uint8],
    bits: int,
    latent_q: NDArray[np.float32],
    sum_q: NDArray[np.float32],
) -> None:
    """Unpack what `quantise_pack` packed: exactly its `latent_q` and `sum_q`.

    Parameters
    ----------
    packed : uint8 array, shape (N, packed_bytes(bits))
    bits : int
        Bits of a latent, 1 to 16.
    latent_q : float32 array, shape (N, 16)
        Output, dimensionless.
    sum_q : float32 array, shape (N,)
        Output, transverse ADC counts.

    Raises
    ------
    ValueError
        If `bits` is out of range or the shapes do not fit.
    """
    rows = packed.shape[0]
    if not 1 <= bits <= 16:
        raise ValueError("unpack_latents: bits must be 1 to 16")
    if packed.shape[1] != packed_bytes(bits):
        raise ValueError("unpack_latents: expected packed (N, packed_bytes(bits))")
    if latent_q.shape != (rows, 16) or sum_q.shape[0] != rows:
        raise ValueError("unpack_latents: expected latent_q (N, 16) and sum_q (N,)")
    lsb = np.float32(1) / np.float32(1 << (bits - 1))
    for n in range(rows):
        sum_q[n] = decode_sum(_field(packed, n, 0, 9))
        for k in range(16):
            latent_q[n, k] = np.float32(_field(packed, n, 9 + bits * k, bits)) * lsb
