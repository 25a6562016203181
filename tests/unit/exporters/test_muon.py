"""Muon: its steps are orthogonal matrices, for weights that are matrices."""

import pytest

torch = pytest.importorskip("torch")

from sluice.exporters.training.muon import Muon, is_matrix, orthogonal  # noqa: E402


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (3, 6, 4), (12, 12)])
def test_steps_keep_singular_vectors_and_make_their_values_alike(shape):
    torch.manual_seed(1)
    matrix = torch.randn(shape, dtype=torch.float64)
    found = orthogonal(matrix)
    values = torch.linalg.svdvals(found)
    assert found.shape == matrix.shape
    assert values.max() < 1.3
    assert values.median() > 0.6
    # The same singular vectors: the product of one with the other's transpose is symmetric.
    product = found @ matrix.mT
    torch.testing.assert_close(product, product.mT)


def test_no_gradient_and_a_gradient_of_zero_move_nothing():
    still, zero = (torch.nn.Parameter(torch.ones(3, 3)) for _ in range(2))
    zero.grad = torch.zeros(3, 3)
    Muon([still, zero], 0.1).step()
    assert torch.equal(still, torch.ones(3, 3))
    assert torch.equal(zero, torch.ones(3, 3))


@pytest.mark.parametrize(
    ("shape", "matrix"),
    [((4, 3), True), ((2, 4, 3), True), ((8, 2, 3, 3), True), ((4,), False), ((1, 9), False)],
)
def test_only_matrices_are_its_business(shape, matrix):
    assert is_matrix(torch.zeros(shape)) is matrix


def test_a_matrix_is_learnt():
    torch.manual_seed(2)
    wanted, weights = torch.randn(6, 4), torch.nn.Parameter(torch.zeros(6, 4))
    optimiser = Muon([weights], 0.5)
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 0.5 * (1.0 - step / 200)
        weights.grad = weights.detach() - wanted
        optimiser.step()
    assert (weights - wanted).abs().max() < 0.1
