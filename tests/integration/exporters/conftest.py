"""One small training, shared by the tests that need trained nets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Once = Callable[[str, Callable[[Path], Any]], Path]

RECIPE = """
seed = 3
events = 3000
validation = 0.2
coded = 0.5
repeats = { busy = 0, sparse = 0 }
workers = 1
[autoencoder]
seeds = 2
width = 16
blend = 0.1
warm = { epochs = 1, rate = 1e-3 }
fine = { epochs = 1, rate = 1e-3 }
long = { epochs = 1, rate = 1e-3 }
[emd]
guide = "wafer-emd"
guide_epochs = 1
[emd.nets.wafer-emd]
pairs = 256
decoded = 0.5
widths = [8, 4]
schedule = { epochs = 1, rate = 1e-3, muon = 1e-2, batch = 64 }
[emd.cnn]
filters = 2
hidden = 4
pairs = 64
decoded = 0.5
schedule = { epochs = 1, rate = 1e-3, batch = 64 }
[tagger]
hidden = [8]
schedule = { epochs = 1, rate = 1e-3 }
"""


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def checkpoints(once: Once, recipe: Path) -> Path:
    from sluice.exporters.families.base import TrainOptions, get

    return once("checkpoints", lambda at: get("wafers").train(TrainOptions(at, recipe=recipe)))


@pytest.fixture(scope="session")
def repository(once: Once, checkpoints: Path) -> Path:
    from sluice.exporters.families.base import get

    # In a folder within: the export leaves the study beside the models.
    return once("exported", lambda at: get("wafers").export(checkpoints, at / "models")) / "models"
