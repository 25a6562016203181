"""Small graphs, parts that misbehave on purpose, and copies of the models to spoil."""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, T_INGEST, Column, Schema

PARTS = '''
import numpy as np
from msgspec import Struct
from sluice.pipeline.core.schema import EVENT_ID, Column, Schema


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    ids: tuple[int, ...] = ()
    how: str = ""


class Trap:
    """Raises on some events, or on all but blank ones."""

    Options = Options
    consumes = Schema((EVENT_ID,))
    provides = Schema()

    def __init__(self, name, options):
        self.name = name
        self.ids = np.array(options.ids, np.uint64)

    def open(self, events):
        pass

    def process(self, batch):
        if np.isin(batch["event_id"], self.ids).any() or (not len(self.ids) and
                                                          batch["event_id"].any()):
            raise ArithmeticError("sprung")
        return batch

    def close(self):
        pass


class WrongOutput(Trap):
    """Provides something else than it says, once real events come."""

    provides = Schema((Column("extra", "float32"),))

    def __init__(self, name, options):
        self.name = name
        self.how = options.how

    def process(self, batch):
        extra = np.zeros(batch.events, np.float32)
        if not batch["event_id"].any():
            return batch.with_columns(extra=extra)
        if self.how == "dtype":
            extra = extra.astype(np.float64)
        elif self.how == "shape":
            extra = np.zeros((batch.events, 2), np.float32)
        elif self.how == "length":
            extra = np.zeros(batch.events + 1, np.float32)
        elif self.how == "fewer":
            return batch.with_columns(extra=extra).slice(0, batch.events - 1)
        elif self.how == "nothing":
            return batch
        return batch.with_columns(extra=extra)
'''
ENTRY_POINTS = """
[sluice.stages]
test.trap = sluice_unit_parts:Trap
test.wrong-output = sluice_unit_parts:WrongOutput
test.nothing = sluice_unit_parts:Nothing
test.broken = no_such_module_anywhere:Stage
"""


@pytest.fixture(scope="session")
def _parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    (folder / "sluice_unit_parts.py").write_text(PARTS)
    meta = folder / "sluice_unit_parts-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: sluice-unit-parts\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


@pytest.fixture
def parts(_parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages ``test.trap`` and ``test.wrong-output``, registered as anyone's would be."""
    monkeypatch.setattr(sys, "path", [str(_parts), *sys.path])


@pytest.fixture(scope="session")
def _models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for model in Path(str(files("sluice.models"))).iterdir():
        if model.is_dir() and not model.name.startswith("_"):
            shutil.copytree(model, folder / model.name)
    return folder


@pytest.fixture(autouse=True)
def models(_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped models: a training beside the tests does not change them."""
    monkeypatch.setenv("SLUICE_MODELS", str(_models))
    return _models


@pytest.fixture
def my_models(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may spoil."""
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    monkeypatch.setenv("SLUICE_MODELS", str(folder))
    return folder


@pytest.fixture
def hgcal() -> Callable[..., dict[str, Any]]:
    """Return the tables of the shipped graph, to be changed."""

    def tables() -> dict[str, Any]:
        return tomllib.loads(Path(load_graph("hgcal").origin).read_text())

    return tables


@pytest.fixture
def to_toml() -> Callable[[dict[str, Any]], str]:
    return tomli_w.dumps


@pytest.fixture
def words_schema() -> Schema:
    """Columns of a source of chip words."""
    return Schema((EVENT_ID, T_EVENT, T_INGEST, Column("words", "uint32", (12,))))


@pytest.fixture
def charge_schema() -> Schema:
    """Columns of a source of charges."""
    return Schema((EVENT_ID, T_EVENT, T_INGEST, Column("charge", "float32", (48,), "ADC")))
