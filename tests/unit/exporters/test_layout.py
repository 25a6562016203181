"""Families have the same modules, and a model that was renamed is refused with its new name."""

from __future__ import annotations

from importlib.resources import files

import pytest

from sluice.exporters import families
from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.inference.repository import find_model

NAMES = ["__init__", "recipe", "data", "model", "train", "export", "evaluate", "metrics", "plots"]
#: The wafers train two kinds of nets, each with a model of its own.
ELSEWHERE = {("wafers", "model"): ["coders/model.py", "surrogates/model.py"]}


@pytest.mark.parametrize("family", families.names())
def test_every_family_has_the_same_modules(family):
    folder = files(f"sluice.exporters.families.{family}")
    for name in NAMES:
        for file in ELSEWHERE.get((family, name), [f"{name}.py"]):
            assert folder.joinpath(*file.split("/")).is_file(), f"{family}/{file}"
    simulations = folder / "simulate.py", folder / "simulation" / "__init__.py"
    assert sum(simulation.is_file() for simulation in simulations) == 1


def test_a_renamed_model_is_refused_with_its_new_name():
    with pytest.raises(ModelError) as refused:
        find_model("antihydrogen-still")
    assert "antihydrogen-unshifted" in str(refused.value)
    assert find_model("antihydrogen-unshifted").manifest.name == "antihydrogen-unshifted"
