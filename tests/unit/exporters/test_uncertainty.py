"""Standard errors against what is known of them; losses of variants; figures of a cut."""

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from sluice.exporters.evaluation.classifier import auc
from sluice.exporters.evaluation.shipped_models import measure_models
from sluice.exporters.evaluation.uncertainty import auc_error, bootstrap_errors, share_error

#: A standard deviation from 100 draws scatters by 7 %: four times that.
SCATTER = 0.28


def test_drawn_errors_are_those_of_a_share_and_of_a_mean():
    rng = np.random.default_rng(4)
    passed, energy = rng.random(3_000) < 0.2, rng.exponential(7.0, 500)

    def measure(of_passed, of_energy):
        return {"share": passed[of_passed].mean(), "energy": energy[of_energy].mean()}

    found = bootstrap_errors(measure, 3_000, 500)
    expected = {
        "share_error": share_error(passed.mean(), 3_000),
        "energy_error": energy.std() / np.sqrt(500),
    }
    assert found == pytest.approx(expected, rel=SCATTER)
    assert bootstrap_errors(measure, 3_000, 500) == found


def test_a_share_s_error_is_not_that_of_another_share():
    assert share_error(0.1, 900) == pytest.approx(0.01)
    assert share_error(0.5, 900) == pytest.approx(1 / 60)


@pytest.mark.parametrize(("wins", "losses"), [(400, 400), (100, 1_600), (1_600, 100)])
def test_an_area_s_error_is_its_spread_over_samples_of_unequal_classes(wins, losses):
    rng = np.random.default_rng(5)
    positive = np.arange(wins + losses) < wins
    areas, errors = [], []
    for _ in range(300):
        score = rng.exponential(1.0, wins + losses) * np.where(positive, 3.0, 1.0)
        areas.append(auc(score, positive))
        errors.append(auc_error(score, positive))
    # The formula holds for exponential scores; 300 samples scatter by 4 %.
    assert np.mean(errors) == pytest.approx(np.std(areas, ddof=1), rel=0.16)


def test_a_variant_s_losses_are_against_its_own_whole_model():
    scores = {"a": 0.9, "a-int8": 0.7, "b-fp16": 0.5, "b": 0.4, "c-int8": 0.1}

    def measure(name, run):
        return {"auc": run(), "auc_error": 0.01}

    found = measure_models({name: lambda s=score: s for name, score in scores.items()}, measure)
    assert {name: table["auc"] for name, table in found.items()} == scores
    losses = {name: table["auc_loss"] for name, table in found.items() if "auc_loss" in table}
    assert losses == pytest.approx({"a-int8": 0.2, "b-fp16": -0.1})
    assert all("auc_error_loss" not in table for table in found.values())
