"""One small training, shared by the tests that need trained nets."""

from pathlib import Path

import pytest

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
def checkpoints(tmp_path_factory: pytest.TempPathFactory, recipe: Path) -> Path:
    from sluice.exporters.families.base import TrainOptions, get

    folder = tmp_path_factory.mktemp("checkpoints")
    get("wafers").train(TrainOptions(folder, recipe=recipe))
    return folder


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> Path:
    from sluice.exporters.families.base import get

    root = tmp_path_factory.mktemp("models")
    get("wafers").export(checkpoints, root)
    return root
