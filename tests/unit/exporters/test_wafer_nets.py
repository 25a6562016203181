"""The wafer nets: what holds by construction, whatever the weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sluice.kernels.wafer import LATENTS, MASK_8X8, packed_bytes, quantise_pack

torch = pytest.importorskip("torch")
pytest.importorskip("ot")

from sluice.exporters.families.wafers import model, pairs  # noqa: E402
from sluice.exporters.families.wafers.lowering import LoweredEncoder  # noqa: E402

WEIGHTS = hnp.arrays(np.float64, (4, 48), elements=st.floats(0, 1000).map(lambda x: round(x, 3)))


def fractions(weights):
    return torch.from_numpy(pairs.fractions(weights + (weights.sum(1, keepdims=True) == 0)))


@pytest.fixture(scope="module")
def emd():
    torch.manual_seed(1)
    return model.EmdSurrogate(32, 16).double().eval()


@settings(max_examples=50, deadline=None)
@given(WEIGHTS, WEIGHTS)
def test_surrogate_is_symmetric(emd, a, b):
    p, q = fractions(a), fractions(b)
    assert torch.equal(emd(p, q), emd(q, p))


@settings(max_examples=50, deadline=None)
@given(WEIGHTS, WEIGHTS, st.floats(1e-3, 1))
def test_surrogate_is_homogeneous(emd, a, b, scale):
    p, q = fractions(a), fractions(b)
    torch.testing.assert_close(emd(p, p + scale * (q - p)), scale * emd(p, q), rtol=1e-6, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(WEIGHTS)
def test_surrogate_is_zero_at_zero_with_a_finite_gradient(emd, a):
    p = fractions(a).requires_grad_()
    distance = emd(p, p.detach().clone())
    assert torch.equal(distance, torch.zeros_like(distance))
    distance.sum().backward()
    assert torch.isfinite(p.grad).all()


def test_encoder_has_the_chip_s_topology():
    encoder = model.Encoder()
    assert sum(weight.numel() for weight in encoder.parameters()) == 2144
    assert encoder(torch.zeros(3, 8, 8)).shape == (3, LATENTS)


def test_encoder_pads_at_the_bottom_and_right_only():
    encoder = model.Encoder()
    with torch.no_grad():
        encoder.conv.weight.fill_(0.0)
        encoder.conv.bias.fill_(0.0)
        encoder.conv.weight[0, 0, 0, 0] = 1.0
    image = torch.rand(2, 8, 8)
    sums = encoder.convolve(image).reshape(2, 8, 4, 4)
    torch.testing.assert_close(sums[:, 0], image[:, ::2, ::2])


def test_lowered_encoder_computes_the_same():
    torch.manual_seed(3)
    encoder = model.Encoder()
    image = torch.rand(50, 8, 8) * torch.tensor(MASK_8X8.tolist())
    lowered = LoweredEncoder(encoder)
    assert lowered.conv.out_features == 96
    torch.testing.assert_close(lowered(image), encoder(image), rtol=1e-5, atol=1e-6)


def test_decoder_gives_fractions():
    fraction = model.Decoder()(torch.rand(20, LATENTS))
    assert fraction.shape == (20, 48)
    assert (fraction >= 0).all()
    torch.testing.assert_close(fraction.sum(1), torch.ones(20))


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float32, (3, LATENTS), elements=st.floats(-1, 3, width=32)))
def test_training_quantises_as_the_link_does(latent):
    latent_q, sums = np.empty_like(latent), np.empty(3, np.float32)
    packed = np.empty((3, packed_bytes(9)), np.uint8)
    quantise_pack(latent, np.ones(3, np.float32), 9, packed, latent_q, sums)
    np.testing.assert_array_equal(model.quantise(torch.from_numpy(latent)).numpy(), latent_q)


def test_tagger_gives_probabilities_also_for_an_empty_wafer():
    score = model.Tagger([32, 16])(torch.zeros(2, LATENTS), torch.tensor([0.0, 1e9]))
    torch.testing.assert_close(score.sum(1), torch.ones(2))


def test_symmetries_keep_distances():
    turns = pairs.symmetries()
    assert len(turns) == 3
    for turn in turns:
        moved = pairs.DISTANCE[np.ix_(turn, turn)]
        np.testing.assert_allclose(moved, pairs.DISTANCE, atol=1e-4)


@pytest.mark.parametrize("kind", sorted(pairs.PARTNERS))
def test_partners_are_fractions(kind):
    rng = np.random.default_rng(1)
    p = pairs.fractions(rng.integers(0, 3, (40, 48)) + np.eye(48)[:40])
    q = pairs.PARTNERS[kind](p, rng)
    assert q.shape == p.shape
    assert (q > -1e-12).all()
    np.testing.assert_allclose(q.sum(1), 1.0)


def test_exact_distance_of_single_cells_is_the_ground_distance():
    p, q = np.eye(48)[[0, 5, 7]], np.eye(48)[[0, 40, 8]]
    expected = [0.0, pairs.DISTANCE[5, 40], pairs.DISTANCE[7, 8]]
    np.testing.assert_allclose(pairs.exact(p, q), expected, atol=1e-12)
