"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run numbers of a test are its own; commands that it starts inherit the folder."""
    monkeypatch.setenv("SLUICE_STATE", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data beside the project, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("SLUICE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent; set SLUICE_DATA")
    return folder
