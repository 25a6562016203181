"""The wafer nets: what holds by construction, whatever the weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sluice.exporters.families.wafers import data
from sluice.exporters.families.wafers.coders import fixed_point
from sluice.exporters.families.wafers.simulation.wafers import charges
from sluice.kernels.wafer import LATENTS, MASK_8X8, packed_bytes, quantise_pack

torch = pytest.importorskip("torch")

from sluice.exporters.families.wafers.coders import fixed_point_torch, losses, model  # noqa: E402
from sluice.exporters.families.wafers.coders.matrix_form import LoweredEncoder  # noqa: E402
from sluice.exporters.families.wafers.surrogates import model as surrogates  # noqa: E402
from sluice.exporters.families.wafers.surrogates import pairs  # noqa: E402

WEIGHTS = hnp.arrays(np.float64, (4, 48), elements=st.floats(0, 1000).map(lambda x: round(x, 3)))
SIXBITS = st.integers(-40, 40)


def fractions(weights):
    return torch.from_numpy(pairs.fractions(weights + (weights.sum(1, keepdims=True) == 0)))


@pytest.fixture(scope="module")
def surrogate():
    torch.manual_seed(1)
    return surrogates.EmdSurrogate([12, 8, 4]).double().eval()


@given(WEIGHTS, WEIGHTS)
def test_surrogate_is_symmetric(surrogate, a, b):
    p, q = fractions(a), fractions(b)
    assert torch.equal(surrogate(p, q), surrogate(q, p))


@given(WEIGHTS, WEIGHTS, st.floats(1e-3, 1))
def test_surrogate_is_homogeneous(surrogate, a, b, scale):
    p, q = fractions(a), fractions(b)
    scaled = surrogate(p, p + scale * (q - p))
    torch.testing.assert_close(scaled, scale * surrogate(p, q), rtol=1e-6, atol=1e-9)


@given(WEIGHTS, WEIGHTS, st.integers(0, 47))
def test_surrogate_depends_on_the_difference_alone(surrogate, a, b, cell):
    p, q = fractions(a), fractions(b)
    common = torch.eye(48, dtype=torch.float64)[cell]
    mixed = surrogate(0.5 * (p + common), 0.5 * (q + common))
    torch.testing.assert_close(mixed, 0.5 * surrogate(p, q), rtol=1e-6, atol=1e-9)


@settings(max_examples=25)
@given(WEIGHTS)
def test_surrogate_is_zero_at_zero_with_a_finite_gradient(surrogate, a):
    p = fractions(a).requires_grad_()
    distance = surrogate(p, p.detach().clone())
    assert torch.equal(distance, torch.zeros_like(distance))
    distance.sum().backward()
    assert torch.isfinite(p.grad).all()


@given(WEIGHTS, WEIGHTS)
def test_surrogate_stays_when_the_wafers_turn(surrogate, a, b):
    p, q = fractions(a), fractions(b)
    for turn in torch.from_numpy(pairs.symmetries()):
        turned = surrogate(p[:, turn], q[:, turn])
        torch.testing.assert_close(turned, surrogate(p, q), rtol=1e-9, atol=1e-12)


@settings(max_examples=25)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_turning_map_starts_as_the_rows_it_is_given(inputs, outputs, seed):
    torch.manual_seed(seed)
    layer, rows = (
        surrogates.RotationEquivariantLinear(inputs, outputs).double(),
        torch.randn(outputs, 3 * inputs),
    )
    layer.start(rows)
    x = torch.randn(5, 3, inputs, dtype=torch.float64)
    y = torch.stack(layer(x.unbind(1)), 1)
    # The map is a cyclic convolution: each third of the outputs sees the thirds one further on.
    seen = torch.stack([x.roll(-turn, 1).flatten(1) @ rows.double().T for turn in range(3)], 1)
    gap = (y[:, :, None] - seen[:, None]).abs().amax((0, 3))
    assert gap[0, 0] < 1e-5
    assert (gap[1:].min(1).values < 1e-5).all()


def test_surrogate_counts_its_multiply_adds():
    layer = surrogates.RotationEquivariantLinear(16, 10)
    # Against nine products of 16 x 10 of the same map as a matrix of 48 x 30.
    assert 4 * 16 * 10 < layer.macs < 0.7 * 48 * 30
    net = surrogates.EmdSurrogate([64, 40, 24])
    products = 4 * (16 * 64 + 64 * 40 + 40 * 24)
    assert products < net.macs < 1.1 * products


def test_published_surrogate_is_symmetric_and_counts_its_work():
    torch.manual_seed(1)
    net = surrogates.CnnSurrogate().eval()
    p, q = (fractions(np.random.default_rng(s).random((5, 48))).float() for s in (1, 2))
    torch.testing.assert_close(net(p, q), net(q, p))
    assert 1.5e6 < net.macs < 2.5e6


def test_encoder_has_the_chip_s_topology():
    encoder = model.Encoder()
    assert sum(weight.numel() for weight in encoder.parameters()) == 2144
    assert encoder(torch.zeros(3, 8, 8)).shape == (3, LATENTS)


def some_encoder(seed, spread):
    torch.manual_seed(seed)
    encoder = model.Encoder()
    with torch.no_grad():
        for weights in encoder.parameters():
            weights.copy_(spread * torch.randn_like(weights))
    return encoder


@pytest.mark.parametrize("bits", [3, 5, 7, 9])
@settings(max_examples=15)
@given(seed=st.integers(0, 1000), spread=st.floats(0.05, 1.5))
def test_encoder_gives_the_integers_of_the_chip_s_arithmetic(bits, seed, spread):
    encoder = some_encoder(seed, spread)
    sample = data.wafers(charges(200, seed)[1])
    expected = fixed_point.encode(
        fixed_point_torch.integers(encoder.state_dict()), sample.image, bits
    )
    for net in (encoder, LoweredEncoder(encoder)):
        with torch.no_grad():
            latent = net(torch.from_numpy(sample.image)).numpy()
        latent_q, sums = np.empty_like(latent), np.empty(len(latent), np.float32)
        packed = np.empty((len(latent), packed_bytes(bits)), np.uint8)
        quantise_pack(latent, sample.total, bits, packed, latent_q, sums)
        np.testing.assert_array_equal(latent_q * 2 ** (bits - 1), expected)


def test_silicon_that_cuts_products_is_no_more_than_a_count_a_product_lower():
    encoder = some_encoder(4, 0.2)
    sample = data.wafers(charges(300, 4)[1])
    held = fixed_point_torch.integers(encoder.state_dict())
    gap = fixed_point.encode(held, sample.image, 9) - fixed_point.encode_truncating(
        held, sample.image
    )
    assert gap.min() >= -64
    assert np.abs(gap).max() < 511
    assert (gap > 0).mean() > (gap < 0).mean()


def test_lowered_encoder_is_the_same_to_the_last_bit():
    encoder = some_encoder(3, 0.3)
    image = torch.rand(50, 8, 8) * torch.tensor(MASK_8X8.tolist())
    lowered = LoweredEncoder(encoder)
    assert lowered.conv.out_features == 96
    assert torch.equal(lowered(image), encoder(image))


def test_weights_are_six_bits_and_the_gradient_passes():
    values = torch.linspace(-2, 2, 401, requires_grad=True)
    rounded = fixed_point_torch.weights(values)
    counts = rounded.detach().numpy() * 32
    assert counts.min() == -32
    assert counts.max() == 31
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-4)
    rounded.sum().backward()
    assert torch.equal(values.grad, torch.ones_like(values))


def test_decoder_gives_fractions_and_takes_a_bias():
    decoder, latent = model.Decoder(24), torch.rand(20, LATENTS)
    fraction = decoder(latent)
    assert fraction.shape == (20, 48)
    assert (fraction >= 0).all()
    torch.testing.assert_close(fraction.sum(1), torch.ones(20))
    bias = torch.rand(LATENTS)
    torch.testing.assert_close(decoder(latent, bias), decoder(latent + bias))


def test_conditional_decoder_sees_the_sum():
    torch.manual_seed(2)
    coder, image = model.Autoencoder(5, 24, conditional=True), torch.rand(4, 8, 8)
    few, many = coder(image, torch.full((4,), 10.0)), coder(image, torch.full((4,), 1e4))
    assert not torch.allclose(few, many)


@pytest.mark.parametrize("bits", [3, 5, 7, 9])
@settings(max_examples=25)
@given(latent=hnp.arrays(np.float32, (3, LATENTS), elements=st.floats(-1, 3, width=32)))
def test_training_quantises_as_the_link_does(bits, latent):
    latent_q, sums = np.empty_like(latent), np.empty(3, np.float32)
    packed = np.empty((3, packed_bytes(bits)), np.uint8)
    quantise_pack(latent, np.ones(3, np.float32), bits, packed, latent_q, sums)
    np.testing.assert_array_equal(
        fixed_point_torch.quantise(torch.from_numpy(latent), bits).numpy(), latent_q
    )


def test_tagger_gives_probabilities_also_for_an_empty_wafer():
    score = model.Tagger([32, 16])(torch.zeros(2, LATENTS), torch.tensor([0.0, 1e9]))
    torch.testing.assert_close(score.sum(1), torch.ones(2))


@pytest.mark.parametrize("kind", ["warm", *losses.KINDS])
def test_losses_are_smallest_where_nothing_is_lost(kind):
    torch.manual_seed(1)
    surrogate = surrogates.EmdSurrogate([8, 4])
    p = fractions(np.random.default_rng(1).random((6, 48))).float()
    q = fractions(np.random.default_rng(2).random((6, 48))).float()
    loss = losses.chosen(kind, surrogate, 0.1)
    assert loss(p, p).item() < loss(p, q).item()


def test_telescope_s_groups_are_squares_of_neighbours():
    distance = pairs.DISTANCE
    assert len(losses.SQUARES) == 36
    for cells, weight in losses.SQUARES:
        assert distance[np.ix_(cells, cells)].max() < 4.2
        assert 6 <= weight <= 13.5
