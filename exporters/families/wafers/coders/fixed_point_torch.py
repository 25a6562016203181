"""Fixed-point arithmetic of the front-end chip's encoder, in torch; `fixed_point` has it in NumPy.

Image: 8 bits, 7 of them behind the point. Weights and biases: 6 bits, signed, 5 behind the point.
Sums are exact; the convolution's are cut to 7 bits behind the point after the ReLU, and stay below
3. A latent of b bits has one before the point. Every sum is a whole number of 1/4096 below 2**24 of
them, so float32 computes it exactly in any order. The chip itself cuts each product before adding;
that is no matrix product, so it is left out here.

References
----------
G. Di Guglielmo et al., arXiv:2105.01683.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IMAGE_STEP = 1 / 128
#: Weights of the convolution.
TAPS = 72
WEIGHT_STEP, WEIGHT_MIN, WEIGHT_MAX = 1 / 32, -1.0, 31 / 32


def truncate(values: Tensor, step: float) -> Tensor:
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
