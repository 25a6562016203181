"""The front-end chip's encoder in integers, which models must reproduce bit by bit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

#: Bits of a latent by number of output links.
BITS_BY_LINKS = {2: 3, 3: 5, 4: 7, 5: 9}
I64 = NDArray[np.int64]


def encode(held: Mapping[str, NDArray[np.int8]], image: NDArray[np.float32], bits: int) -> I64:
    """Encode wafers in integers alone, layer by layer as the chip does.

    Parameters
    ----------
    held
        ``conv.weight`` (8, 1, 3, 3), ``conv.bias`` (8,), ``dense.weight`` (16, 128) and
        ``dense.bias`` (16,), in units of 1/32.
    image
        (N, 8, 8), the wafer over the power of two at or below its sum.
    bits
        Bits of a latent.

    Returns
    -------
    array
        (N, 16) latent codes, 0 to 2**bits - 1.
    """
    w = {name: values.astype(np.int64) for name, values in held.items()}
    pixels = np.zeros((len(image), 9, 9), np.int64)
    pixels[:, :8, :8] = np.floor(image * 128.0)
    shape = (len(image), 8, 4, 4)
    sums = np.broadcast_to((w["conv.bias"] * 128)[:, None, None], shape).copy()
    for row in range(3):
        for column in range(3):
            window = pixels[:, None, row : row + 8 : 2, column : column + 8 : 2]
            sums += window * w["conv.weight"][:, 0, row, column][:, None, None]
    active = np.maximum(sums >> 5, 0).reshape(len(image), -1)
    dense = active @ w["dense.weight"].T + w["dense.bias"] * 128
    half = 1 << (12 - bits)
    found: I64 = np.clip((dense + half) >> (13 - bits), 0, (1 << bits) - 1)
    return found


def encode_truncating(held: Mapping[str, NDArray[np.int8]], image: NDArray[np.float32]) -> I64:
    """Encode to 9 bits with every product cut before it is added, as the silicon does.

    Parameters
    ----------
    held, image
        Weights of the encoder and (N, 8, 8) images, as for `encode`.

    Returns
    -------
    array
        (N, 16) latent codes, 0 to 511.
    """
    w = {name: values.astype(np.int64) for name, values in held.items()}
    pixels = np.zeros((len(image), 9, 9), np.int64)
    pixels[:, :8, :8] = np.floor(image * 128.0)
    sums = np.zeros((len(image), 8, 4, 4), np.int64) + 4 * w["conv.bias"][:, None, None]
    for row in range(3):
        for column in range(3):
            window = pixels[:, None, row : row + 8 : 2, column : column + 8 : 2]
            sums += (window * w["conv.weight"][:, 0, row, column][:, None, None]) >> 5
    active = np.maximum(sums, 0).reshape(len(image), -1)
    dense = np.zeros((len(image), 16), np.int64) + 8 * w["dense.bias"]
    for n in range(active.shape[1]):
        dense += (active[:, n, None] * w["dense.weight"][None, :, n]) >> 4
    found: I64 = np.clip(dense, 0, 511)
    return found
