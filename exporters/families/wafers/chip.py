"""Fixed-point arithmetic of the front-end chip's encoder, in torch and, apart from it, in integers.

Image: 8 bits, 7 of them behind the point. Weights and biases: 6 bits, signed, 5 behind the point.
Sums are exact; the convolution's are cut to 8 bits with 7 behind the point after the ReLU. A
latent of b bits has one before the point. Every sum is a whole number of 1/4096 below 2**24 of
them, so float32 computes it exactly in any order. The chip itself cuts each product before adding;
that is no matrix product, so it is left out here.

References
----------
G. Di Guglielmo et al., arXiv:2105.01683.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IMAGE_STEP = 1 / 128
ACTIVATION_MAX = 255 / 128
WEIGHT_STEP, WEIGHT_MIN, WEIGHT_MAX = 1 / 32, -1.0, 31 / 32
#: Bits of a latent by number of output links.
BITS_BY_LINKS = {2: 3, 3: 5, 4: 7, 5: 9}


def cut(values: Tensor, step: float) -> Tensor:
    """Round down to a multiple of `step`; the gradient passes as if nothing was rounded."""
    rounded = torch.floor(values / step) * step
    return values + (rounded - values).detach()


def weights(values: Tensor) -> Tensor:
    """Round weights to 6 bits in [-1, 1); the gradient passes."""
    inside = values.clamp(WEIGHT_MIN, WEIGHT_MAX)
    rounded = torch.floor(inside / WEIGHT_STEP + 0.5) * WEIGHT_STEP
    return values + (rounded - values).detach()


def quantise(latent: Tensor, bits: int) -> Tensor:
    """Round (N, 16) latents as the link does; the gradient passes, but not past the ends."""
    step = 2.0 ** (1 - bits)
    inside = latent.clamp(0.0, 2.0 - step)
    rounded = (torch.floor(inside / step + 0.5) * step).clamp(max=2.0 - step)
    return inside + (rounded - inside).detach()


def integers(state: Mapping[str, Tensor]) -> dict[str, NDArray[np.int8]]:
    """Return the weights of an `Encoder` as the chip's integers, in units of 1/32."""
    return {
        name: torch.floor(values.clamp(WEIGHT_MIN, WEIGHT_MAX) * 32 + 0.5).to(torch.int8).numpy()
        for name, values in state.items()
    }


def codes(
    held: Mapping[str, NDArray[np.int8]], image: NDArray[np.float32], bits: int
) -> NDArray[np.int64]:
    """Encode wafers in integers alone, layer by layer as the chip does.

    Parameters
    ----------
    held
        ``conv.weight`` (8, 1, 3, 3), ``conv.bias`` (8,), ``dense.weight`` (16, 128) and
        ``dense.bias`` (16,), in units of 1/32.
    image
        (N, 8, 8), the wafer over the power of two at or below its sum.
    bits
        Of a latent.

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
    active = np.clip(sums >> 5, 0, 255).reshape(len(image), -1)
    dense = active @ w["dense.weight"].T + w["dense.bias"] * 128
    half = 1 << (12 - bits)
    return np.clip((dense + half) >> (13 - bits), 0, (1 << bits) - 1)


def cutting_codes(
    held: Mapping[str, NDArray[np.int8]], image: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Encode to 9 bits with every product cut before it is added, as the silicon does.

    Parameters
    ----------
    held, image
        As for `codes`.

    Returns
    -------
    array
        (N, 16) latent codes, 0 to 511.
    """
    w: dict[str, NDArray[Any]] = {name: values.astype(np.int64) for name, values in held.items()}
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
    return np.clip(dense, 0, 511)
