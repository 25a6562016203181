"""Figures of evaluations on samples made by hand: unequal classes, efficiencies other than a half.

With classes of one size, at half of the signal, or on a sample without what was trained on, a wrong
figure looks like a right one.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from sluice.exporters.evaluation.classifier import auc, roc
from sluice.exporters.families.cosmics import metrics as cosmics
from sluice.exporters.families.jets import metrics as jets
from sluice.exporters.families.wafers import measured_files, metrics
from sluice.exporters.families.wafers.coders.compare import Codec
from sluice.exporters.families.wafers.data import wafers
from sluice.exporters.families.wafers.surrogates import pairs
from sluice.kernels.emd import emd, emd_pairs
from sluice.kernels.wafer.geometry import DISTANCE


def scored(wins, losses, seed=3):
    """Return scores with ties and truths: few positives among many negatives, or the reverse."""
    rng = np.random.default_rng(seed)
    positive = rng.permutation(np.arange(wins + losses) < wins)
    return np.round(rng.normal(positive * 1.0, 1.0), 1), positive


@pytest.mark.parametrize(("wins", "losses"), [(7, 230), (230, 7), (1, 60)])
def test_an_area_is_the_share_of_pairs_in_the_right_order(wins, losses):
    score, positive = scored(wins, losses)
    above = score[positive][:, None] - score[~positive]
    share = ((above > 0).sum() + 0.5 * (above == 0).sum()) / (wins * losses)
    # Both are ratios of whole numbers: equal but for the last digits.
    assert auc(score, positive) == pytest.approx(share, rel=1e-12)
    assert auc(-score, positive) == pytest.approx(1 - share, rel=1e-12)


@pytest.mark.parametrize(("wins", "losses"), [(7, 230), (230, 7)])
def test_a_curve_has_the_share_of_each_class_above_each_cut(wins, losses):
    score, positive = scored(wins, losses)
    passed_negative, passed_positive = roc(score, positive)
    cuts = np.unique(score)[::-1]
    expected = [(score[~positive] >= cut).mean() for cut in cuts]
    np.testing.assert_allclose(passed_negative, [0, *expected], rtol=1e-12)
    expected = [(score[positive] >= cut).mean() for cut in cuts]
    np.testing.assert_allclose(passed_positive, [0, *expected], rtol=1e-12)


@pytest.mark.parametrize(("efficiency", "passed"), [(0.2, 25), (0.5, 100), (0.9, 400)])
def test_a_rejection_is_of_the_cut_that_keeps_that_share_of_the_signal(efficiency, passed):
    """800 background jets, of which more pass the looser the cut; 100 signal jets."""
    signal = np.linspace(0.0, 1.0, 101)
    levels = {0.2: 25, 0.5: 75, 0.9: 300}  # jets that come in addition at each cut
    background = np.concatenate(
        [np.full(n, 1.0 - cut + 0.005) for cut, n in levels.items()] + [np.full(400, -1.0)]
    )
    cut = jets.threshold(signal, efficiency)
    assert (signal > cut).mean() == pytest.approx(efficiency, abs=0.01)  # one jet of the signal
    assert jets.rejection(signal, background, efficiency) == pytest.approx(800 / passed)


def test_a_rejection_depends_on_the_signal_s_scores_and_not_on_a_fixed_score():
    signal, background = np.linspace(0, 0.1, 1001), np.linspace(0, 0.2, 401)
    # 0.08 is exceeded by a fifth of the signal, and by three fifths of the background.
    assert jets.rejection(signal, background, 0.2) == pytest.approx(1 / 0.6, rel=0.01)
    assert jets.rejection(signal + 7, background + 7, 0.2) == pytest.approx(1 / 0.6, rel=0.01)


def test_a_divergence_is_of_shapes_and_not_of_sizes():
    p, q = np.array([3.0, 1.0, 0.0]), np.array([1.0, 1.0, 2.0])
    middle = (p / 4 + q / 4) / 2

    def entropy(x):
        return -sum(v * np.log2(v) for v in x if v)

    expected = entropy(middle) - (entropy(p / 4) + entropy(q / 4)) / 2
    for size in (1.0, 0.1, 50.0):
        assert jets.divergence(p, size * q) == pytest.approx(expected, rel=1e-12)


def test_the_muons_kept_are_a_share_of_the_muons(monkeypatch):
    """200 annihilations of which 198 pass, 40 muons of which 10 do."""
    monkeypatch.setattr(cosmics, "selections", lambda sample: {"": np.ones(len(sample), bool)})
    annihilations = np.concatenate([np.full(2, 0.1), np.linspace(0.6, 0.9, 198)])
    muons = np.concatenate([np.full(30, 0.05), np.linspace(0.61, 0.8, 10)])
    truth = np.repeat([cosmics.ANNIHILATION, 1 - cosmics.ANNIHILATION], [200, 40])

    class Sample(SimpleNamespace):
        def __len__(self):
            return len(self.truth)

    found = cosmics.figures(np.concatenate([annihilations, muons]), Sample(truth=truth))
    assert found["muons_kept"] == pytest.approx(0.25)
    assert found["auc"] > 0.8


@pytest.fixture(scope="module")
def sample():
    """40 wafers with some hot cells each, classes of 25, 10 and 5."""
    rng = np.random.default_rng(5)
    charge = rng.integers(0, 3, (40, 48)).astype(np.uint32)
    charge[np.arange(40), rng.integers(0, 48, 40)] += 500
    return wafers(charge, np.repeat([0, 1, 2], [25, 10, 5]).astype(np.uint8))


def less(factor):
    """A codec that sends a part of the charge of every cell."""
    return lambda some: (factor * some.charge).astype(np.float32)


def shifted(cells):
    """A codec that sends the charge of each cell as that of another one."""
    return lambda some: np.roll(some.charge, cells, axis=1).astype(np.float32)


def test_a_response_is_decoded_over_true_charge(sample):
    for factor in (0.8, 1.25):
        distance, response = metrics.distances(less(factor), sample)
        np.testing.assert_allclose(response, factor, rtol=1e-6)  # float32
        np.testing.assert_allclose(distance, 0, atol=1e-6)  # the shape is the same
        line = metrics.codec(Codec("x", 3, 7.0, (less(factor),)), sample)
        assert line["response_mean"] == pytest.approx(factor, rel=1e-6)


def test_a_gain_is_positive_where_the_better_codec_is_nearer(sample):
    near, far = Codec("near", 2, 9.0, (less(1.0),)), Codec("far", 2, 9.0, (shifted(7),))
    distance = pairs.exact(sample.fraction, pairs.fractions(shifted(7)(sample))).mean()
    assert distance > 0.5
    assert metrics.gain(near, far, sample)["gain_mean"] == pytest.approx(distance, rel=1e-5)
    assert metrics.gain(far, near, sample)["gain_mean"] == pytest.approx(-distance, rel=1e-5)


def test_images_that_were_trained_on_are_left_out_and_no_others(sample):
    trained = np.array([3, 11, 39])
    seen = measured_files.image_digests(sample.charge[trained])
    unseen = metrics.held_out(sample, seen)
    kept = np.setdiff1d(np.arange(40), trained)
    np.testing.assert_array_equal(unseen.charge, sample.charge[kept])
    np.testing.assert_array_equal(unseen.truth, sample.truth[kept])
    assert len(metrics.held_out(sample, seen[:0])) == 40


def test_a_tagger_s_figures_are_those_of_its_scores(sample, monkeypatch):
    rng = np.random.default_rng(8)
    score = rng.dirichlet(np.ones(3), 40).astype(np.float32)
    monkeypatch.setattr(metrics, "score_tagger", lambda *_: score)
    found = metrics.tagging(None, None, sample)
    right = sum(int(np.argmax(s) == t) for s, t in zip(score, sample.truth, strict=True))
    assert found["accuracy"] == pytest.approx(right / 40)
    for index, label in enumerate(metrics.LABELS):
        positive = sample.truth == index
        above = score[positive, index][:, None] > score[~positive, index]
        assert found[f"auc_{label}"] == pytest.approx(above.mean())


def test_charge_that_is_missing_is_no_distance():
    """Pairs of unequal mass have none, whichever is larger, and spoil no other pair."""
    one, other = np.zeros((2, 4, 48))
    one[:, 3] = 1.0
    other[:, 5] = [1.0, 1.5, 1.0, 0.9]
    found = np.empty(4)
    emd(one, other, DISTANCE.astype(np.float64), found)
    np.testing.assert_allclose(found, DISTANCE[3, 5] * np.array([1, np.nan, 1, np.nan]), rtol=1e-12)
    np.testing.assert_allclose(emd_pairs(one, other, DISTANCE), DISTANCE[3, 5], rtol=1e-12)
