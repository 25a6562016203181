"""Families are found by name, recipes are strict, metrics are right."""

import numpy as np
import pytest

from sluice.exporters.families import base
from sluice.pipeline.core.errors import ConfigError, DataError


def test_families_are_discovered():
    assert "wafers" in base.names()
    for name in base.names():
        family = base.get(name)
        assert family.name == name
        assert family.recipe.is_file()


def test_an_unknown_family_names_the_nearest():
    with pytest.raises(ConfigError, match="wafers"):
        base.get("wafer")


@pytest.mark.modules("torch")
def test_recipe_is_strict(tmp_path):
    from sluice.exporters.families.wafers import recipe

    text = recipe.PATH.read_text()
    broken = tmp_path / "recipe.toml"
    broken.write_text(text.replace("widths", "widhts"))
    with pytest.raises(ConfigError, match="did you mean 'widths'"):
        recipe.load(broken)
    broken.write_text(text.replace("coded = 0.5", "coded = 1.5"))
    with pytest.raises(ConfigError, match="coded"):
        recipe.load(broken)
    with pytest.raises(ConfigError, match="cannot read"):
        recipe.load(tmp_path / "none.toml")


@pytest.mark.modules("torch")
def test_quick_overlays_leaves_only():
    from sluice.exporters.families.wafers import recipe
    from sluice.exporters.training import recipes

    full, quick = recipe.load(), recipe.load(quick=True)
    assert quick.events < full.events
    fast, slow = quick.emd.nets["wafer-emd"].schedule, full.emd.nets["wafer-emd"].schedule
    assert fast.epochs < slow.epochs
    assert fast.rate == slow.rate
    assert recipes.digest(full) != recipes.digest(quick)


@pytest.mark.modules("ot")
def test_auc_counts_ties_half():
    from sluice.exporters.evaluation.classifier import auc

    rng = np.random.default_rng(1)
    score, truth = rng.integers(0, 5, 200), rng.random(200) < 0.4
    won = score[truth][:, None] - score[~truth][None]
    assert auc(score, truth) == pytest.approx(((won > 0) + 0.5 * (won == 0)).mean())


def test_the_curve_rises_from_nothing_to_all_and_has_the_area():
    from sluice.exporters.evaluation.classifier import auc, roc

    rng = np.random.default_rng(2)
    score, truth = rng.integers(0, 9, 300), rng.random(300) < 0.3
    losses, wins = roc(score, truth)
    assert len(losses) == len(wins) == 10
    for share in (losses, wins):
        assert (share[0], share[-1]) == (0, 1)
        assert (np.diff(share) >= 0).all()
    assert np.trapezoid(wins, losses) == pytest.approx(auc(score, truth))
    for cut in range(9):
        passed = score >= cut
        assert losses[9 - cut] == pytest.approx(passed[~truth].mean())
        assert wins[9 - cut] == pytest.approx(passed[truth].mean())
    assert roc(score, np.ones(300, bool))[0].tolist() == [0] * 10


def test_charges_from_a_file(tmp_path):
    from sluice.exporters.families.wafers import measured_files

    path = tmp_path / "charges.csv"
    header = ",".join(f"CALQ_{i}" for i in range(48))
    row = ",".join(["7"] + ["0"] * 47)
    empty = ",".join(["0"] * 48)
    path.write_text("\n".join([header, row, empty, row]) + "\n")
    wafers = measured_files.read_csv(path)
    assert len(wafers) == 1
    assert wafers.total.tolist() == [7.0]
    assert wafers.image.sum() == pytest.approx(7 / 4)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="48 columns"):
        measured_files.read_csv(path)
    path.write_text("a,b\n1,x\n")
    with pytest.raises(DataError, match="cannot read"):
        measured_files.read_csv(path)
