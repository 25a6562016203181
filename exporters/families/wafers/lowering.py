"""The encoder as two matrix products: the same function, for machines that multiply matrices."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sluice.kernels.wafer_geometry import MASK_8X8

from .model import Encoder


class LoweredEncoder(nn.Module):
    """An `Encoder` whose convolution is written out as a 64 x 96 matrix.

    A quarter of the image never shows a cell, so a quarter of the convolution's outputs are
    constants; they join the bias of the dense layer. The result equals the encoder's, to rounding,
    for every image that is zero outside `MASK_8X8`. It needs five times the multiplications and
    less time: code for general convolutions spends most of it on moving data.

    Parameters
    ----------
    encoder
        Where the weights come from.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        with torch.no_grad():
            matrix, bias = _matrix(encoder)
            seen = torch.tensor(MASK_8X8.tolist()).reshape(-1)
            live = (matrix[:, seen] != 0.0).any(1)
            dense, offset = encoder.dense.weight, encoder.dense.bias
            fixed = dense[:, ~live] @ functional.relu(bias[~live])
            self.conv = _linear(matrix[live], bias[live])
            self.dense = _linear(dense[:, live], offset + fixed)

    def forward(self, image: Tensor) -> Tensor:
        """Encode."""
        features = functional.relu(self.conv(image.reshape(-1, 64)))
        return functional.relu(cast(Tensor, self.dense(features)))


def _matrix(encoder: Encoder) -> tuple[Tensor, Tensor]:
    # A linear map is known by what it does to each unit image.
    features = encoder.convolve(torch.cat([torch.zeros(1, 8, 8), torch.eye(64).reshape(64, 8, 8)]))
    bias = features[0]
    return (features[1:] - bias).T.contiguous(), bias


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer
