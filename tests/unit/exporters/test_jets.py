"""The jets family: its simulation is seeded, its losses and measures are what they say."""

import math

import numpy as np
import pytest

from sluice.exporters.families.jets import data, metrics


@pytest.fixture(scope="module")
def simulated():
    from sluice.exporters.families.base import get

    return get("jets").block(60, 5, 0)


@pytest.mark.modules("pythia8mc", "fastjet")
def test_a_block_depends_on_its_seed_alone(simulated):
    from sluice.exporters.families.base import get

    again = get("jets").block(60, 5, 0)
    for name in ("pt", "eta", "phi"):
        assert simulated[name].tolist() == again[name].tolist()


@pytest.mark.modules("pythia8mc", "fastjet")
def test_jets_are_as_they_are_described(simulated):
    truth, pt = simulated["truth"], simulated["pt"]
    assert truth.sum() == 30
    assert set(simulated["resonance"][truth == 1]) == {100.0}
    assert not simulated["resonance"][truth == 0].any()
    columns = {"offsets": pt.offsets, "pt": pt.values}
    columns |= {name: simulated[name].values for name in ("eta", "phi")}
    _, kinematics = data.measure(columns)
    assert (kinematics[:, 0] > 150.0).all()
    mass = kinematics[:, 3]
    # The resonance's own mass, less what leaves the jet; QCD is broad and light.
    assert 85.0 < np.median(mass[truth == 1]) < 105.0
    assert np.median(mass[truth == 0]) < 70.0
    # Hardest candidate first.
    assert all(np.argmax(pt[n]) == 0 for n in range(len(pt)))


def test_blocks_hold_every_resonance_and_never_the_same_chunk():
    chunks = [chunk for n in range(26) for chunk in data.block(n, 100)]
    assert len({chunk.name for chunk in chunks}) == len(chunks)
    assert {chunk.sample.mass for chunk in chunks} == {0, *data.TURNS}
    assert len({chunk.seed(s) for chunk in chunks for s in (1, 2)}) == 2 * len(chunks)


def test_significance_of_one_bin_is_the_textbooks():
    signal, background = np.array([50.0]), np.array([400.0])
    for sigma in (0.0, 0.05, 0.3):
        expected = 50.0 / math.sqrt(400.0 + (sigma * 400.0) ** 2)
        assert metrics.significance(signal, background, sigma) == pytest.approx(expected)


def test_significance_of_many_bins_is_that_of_their_covariance():
    rng = np.random.default_rng(1)
    signal, background = rng.uniform(0, 30, 12), rng.uniform(50, 500, 12)
    for sigma in (0.02, 0.2):
        covariance = np.diag(background) + sigma**2 * np.outer(background, background)
        expected = math.sqrt(signal @ np.linalg.solve(covariance, signal))
        assert metrics.significance(signal, background, sigma) == pytest.approx(expected)


def test_a_score_that_is_the_mass_sculpts_and_a_random_one_does_not():
    rng = np.random.default_rng(2)
    mass = rng.exponential(60.0, 40_000) + 50.0
    random = rng.random(len(mass))
    assert metrics.sculpting(mass, mass, 120.0) == pytest.approx(1.0, abs=1e-6)
    noise = metrics.sculpting(random, mass, 0.9)
    expected = metrics.min_sculpting(random, mass, 0.9, rng)
    assert noise < 4.0 * expected < 0.02


def test_rejection_at_half_the_signal():
    signal, background = np.arange(1000.0), np.concatenate([np.zeros(900), np.full(100, 999.0)])
    assert metrics.rejection(signal, background) == pytest.approx(10.0)


@pytest.mark.modules("torch")
def test_distance_correlation():
    import torch

    from sluice.exporters.families.jets.model import distance_correlation

    generator = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, 1500, generator=generator)
    assert float(distance_correlation(a, 3.0 - 2.0 * a)) == pytest.approx(1.0, abs=1e-4)
    assert float(distance_correlation(a, (a - 0.5).abs())) > 0.1  # no linear correlation, yet found
    assert float(distance_correlation(a, b)) < 0.01


@pytest.mark.modules("torch")
def test_the_gradient_comes_back_reversed():
    import torch

    from sluice.exporters.families.jets.model import reversed_gradient

    value = torch.tensor([2.0], requires_grad=True)
    (reversed_gradient(value, 3.0) ** 2).sum().backward()
    assert value.grad.item() == pytest.approx(-12.0)


@pytest.mark.modules("torch")
def test_the_adversarys_mixture_is_a_density():
    import torch

    from sluice.exporters.families.jets.model import MassAdversary

    torch.manual_seed(3)
    adversary = MassAdversary(16, 5)
    mass = torch.linspace(-3.0, 4.0, 20_001)
    given = torch.full_like(mass, 0.3), torch.full_like(mass, -0.2)
    density = torch.exp(-adversary.loss(mass, *given)).detach()
    assert float(torch.trapezoid(density, mass)) == pytest.approx(1.0, abs=1e-3)


def net_and_loss(name, means, weight, rows):
    import torch

    from sluice.exporters.families.jets import trainings
    from sluice.exporters.families.jets.recipe import PATH, Recipe
    from sluice.exporters.training import recipes

    torch.manual_seed(7)
    net = trainings.Net(name, means, weight)
    module = trainings.Trained(net, recipes.load(PATH, Recipe)).eval()
    module.steps += 1_000_000
    return module, trainings.Loss(module, net, steps=10)(rows)


def some_rows(count=64):
    import torch

    generator = torch.Generator().manual_seed(8)
    x, mass = torch.rand(count, 10, generator=generator), torch.rand(count, generator=generator)
    truth, ones = (torch.arange(count) % 2).float(), torch.ones(count)
    return x, truth, ones, mass, 0.1 * mass, 100.0 * ones


def gradients(module, loss):
    module.zero_grad()
    loss.backward()
    return [weight.grad.clone() for weight in module.tagger.parameters()]


@pytest.mark.modules("torch")
def test_the_tagger_climbs_what_its_adversary_descends():
    """Its gradient is that of cross-entropy less weight times the adversary's surprise."""
    import torch

    rows = some_rows()
    plain = gradients(*net_and_loss("plain", "", 0.0, rows))
    both = gradients(*net_and_loss("adversarial", "adversary", 3.0, rows))
    module, _ = net_and_loss("adversarial", "adversary", 3.0, rows)
    score = torch.sigmoid(module.tagger.logit(rows[0]))[rows[1] == 0]
    background = rows[1] == 0
    surprise = module.adversary.loss(rows[3][background], score, rows[4][background]).mean()
    fought = gradients(module, surprise)
    assert any(one.abs().max() > 1e-5 for one in fought)
    for a, b, c in zip(both, plain, fought, strict=True):
        torch.testing.assert_close(a, b - 3.0 * c, atol=1e-5, rtol=1e-3)


@pytest.mark.modules("torch")
def test_distance_correlation_is_paid_for_background_alone():
    import torch

    from sluice.exporters.families.jets.model import distance_correlation

    rows = some_rows()
    _, plain = net_and_loss("plain", "", 0.0, rows)
    module, paid = net_and_loss("disco", "disco", 5.0, rows)
    background = rows[1] == 0
    score = torch.sigmoid(module.tagger.logit(rows[0]))[background]
    expected = plain + 5.0 * distance_correlation(rows[3][background], score)
    torch.testing.assert_close(paid, expected)
