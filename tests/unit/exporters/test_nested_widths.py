"""Nets of several widths from one: a narrow one is a part of the wide one, exactly."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sluice.exporters.families.wafers.coders import fixed_point_torch, nested  # noqa: E402
from sluice.exporters.families.wafers.coders.matrix_form import LoweredEncoder  # noqa: E402
from sluice.exporters.families.wafers.coders.model import Autoencoder, Tagger  # noqa: E402
from sluice.kernels.wafer.geometry import MASK_8X8  # noqa: E402


@pytest.fixture
def images():
    rng = np.random.default_rng(5)
    image = rng.random((50, 8, 8), dtype=np.float32) * np.asarray(MASK_8X8, np.float32)
    return torch.from_numpy(image / 4)


@pytest.fixture
def coder():
    torch.manual_seed(2)
    return Autoencoder(9, 24)


def test_widths_share_filters_and_the_full_one_is_the_encoder(coder, images):
    full, half, quarter = nested.NestedCoder(coder).latents(images)
    torch.testing.assert_close(
        full, fixed_point_torch.quantise(coder.encoder(images), 9), rtol=0, atol=0
    )
    for share, latent in ((0.5, half), (0.25, quarter)):
        narrow = nested.narrow_encoder(coder.encoder, share)
        torch.testing.assert_close(
            latent, fixed_point_torch.quantise(narrow(images), 9), rtol=0, atol=0
        )
    assert not torch.equal(full, half)
    assert not torch.equal(half, quarter)


@pytest.mark.parametrize("share", nested.WIDTHS.values())
def test_lowered_narrow_encoders_give_the_same_integers_with_fewer_products(coder, images, share):
    narrow = nested.narrow_encoder(coder.encoder, share)
    lowered = LoweredEncoder(narrow, nested.filters(share))
    torch.testing.assert_close(lowered(images), narrow(images), rtol=0, atol=0)
    whole = LoweredEncoder(coder.encoder)
    assert lowered.conv.out_features == share * whole.conv.out_features


def test_narrow_taggers_train_the_whole(images):
    torch.manual_seed(1)
    whole = Tagger([32, 16])
    latent, total = torch.rand(9, 16), 100 * torch.rand(9)
    torch.testing.assert_close(
        nested.narrow_tagger(whole, 1.0).logits(latent, total), whole.logits(latent, total)
    )
    nested.narrow_tagger(whole, 0.25).logits(latent, total).sum().backward()
    grad = whole.net[0].weight.grad
    assert grad[:8].abs().sum() > 0
    assert grad[8:].abs().sum() == 0


@pytest.mark.parametrize(("share", "hidden"), [(1.0, [32, 16]), (0.5, [16, 8]), (0.25, [8, 4])])
def test_taggers_are_cut_to_what_they_use(share, hidden):
    torch.manual_seed(1)
    whole = Tagger([32, 16])
    cut, latent, total = nested.cut_tagger(whole, share), torch.rand(9, 16), torch.rand(9)
    assert [layer.out_features for layer in cut.net if hasattr(layer, "weight")] == [*hidden, 3]
    shared = nested.narrow_tagger(whole, share).logits(latent, total)
    torch.testing.assert_close(cut.logits(latent, total), shared)


def test_the_decoder_learns_nothing(coder, images):
    net = nested.NestedCoder(coder)
    torch.stack([part.square().mean() for part in net(images)]).mean().backward()
    assert all(weights.grad is None for weights in net.decoder.parameters())
    assert net.encoder.conv.weight.grad.abs().sum() > 0
