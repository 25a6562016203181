"""The encoder as two matrix products: the same integers, for machines that multiply matrices."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sluice.kernels.wafer.geometry import MASK_8X8

from . import fixed_point_torch
from .model import Encoder

_COUNTS = 1.0 / fixed_point_torch.IMAGE_STEP


class LoweredEncoder(nn.Module):
    """An `Encoder` with its quantised weights written out, the convolution as a 64 x 96 matrix.

    A quarter of the image never shows a cell, so a quarter of the convolution's outputs are
    constants; they join the bias of the dense layer. The result equals the encoder's, to the last
    bit, for every image that is zero outside `MASK_8X8`. It needs five times the multiplications
    and less time: code for general convolutions spends most of it on moving data.

    Parameters
    ----------
    encoder
        Encoder to take the weights from.
    filters
        Number of the convolution's filters to use; the weights of all others are 0.
    """

    def __init__(self, encoder: Encoder, filters: int = 8) -> None:
        super().__init__()
        with torch.no_grad():
            matrix, bias = (
                encoder.matrix().T.contiguous(),
                encoder.bias() / fixed_point_torch.IMAGE_STEP,
            )
            dense, offset = (
                fixed_point_torch.weights(encoder.dense.weight),
                fixed_point_torch.weights(encoder.dense.bias),
            )
            seen = torch.tensor(MASK_8X8.tolist()).reshape(-1)
            # By where the taps lie, not by their values: a weight may be 0.
            live = (encoder.taps.reshape(64, 128)[seen] < fixed_point_torch.TAPS).any(0)
            live[16 * filters :] = False
            fixed = dense[:, ~live] @ _active(bias[~live]) * fixed_point_torch.IMAGE_STEP
            self.conv = _linear(matrix[live], bias[live])
            self.dense = _linear(dense[:, live] * fixed_point_torch.IMAGE_STEP, offset + fixed)

    def forward(self, image: Tensor) -> Tensor:
        """Encode."""
        pixels = _cut(image.reshape(-1, 64) * _COUNTS)
        return functional.relu(cast(Tensor, self.dense(_active(self.conv(pixels)))))


def _cut(values: Tensor) -> Tensor:
    """Cut numbers that are not negative to integers; a cast takes half the time of a floor."""
    return values.to(torch.int32).to(torch.float32)


def _active(sums: Tensor) -> Tensor:
    return _cut(functional.relu(sums))


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer
