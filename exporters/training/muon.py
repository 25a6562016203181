"""Muon: descent in which every direction of a weight matrix moves by the same length."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_STEPS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315


class Muon(torch.optim.Optimizer):
    """Momentum, then the nearest orthogonal matrix to it, as the step of each weight matrix.

    Parameters
    ----------
    params
        Matrices, (outputs, inputs), stacks of them, (n, outputs, inputs), or kernels of
        convolutions, which count as matrices of one row a filter.
    lr
        Length of a step in each direction; times the root of outputs over inputs where above 1.
    momentum
        Share of the last step that is kept.

    References
    ----------
    K. Jordan et al. (2024), https://kellerjordan.github.io/posts/muon: the method and the
    coefficients of the iteration. Here in float32: weights are few and small.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            for weights in (one for one in group["params"] if one.grad is not None):
                state = self.state[weights]
                mean = state.setdefault("mean", torch.zeros_like(weights))
                mean.lerp_(weights.grad, 1.0 - group["momentum"])
                step = orthogonal(_matrix(weights.grad.lerp(mean, group["momentum"])))
                longer = max(1.0, step.shape[-2] / step.shape[-1]) ** 0.5
                weights.add_(step.reshape(weights.shape), alpha=-group["lr"] * longer)


def is_matrix(weights: Tensor) -> bool:
    """Tell whether Muon has an idea of these weights: not of biases and single rows."""
    return weights.ndim in (2, 3, 4) and min(_matrix(weights).shape[-2:]) > 1


def orthogonal(matrix: Tensor) -> Tensor:
    """Return (..., m, n) matrices with the same singular vectors, singular values about 1."""
    x: Tensor = matrix / (torch.linalg.matrix_norm(matrix, keepdim=True) + 1e-12)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(_STEPS):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * square @ square) @ x
    return x.mT if tall else x


def _matrix(weights: Tensor) -> Tensor:
    return weights.flatten(1) if weights.ndim == 4 else weights
