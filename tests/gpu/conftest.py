"""Fixtures of the GPU tests; where there is no GPU a stand-in takes its place."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice import exporters
from sluice.pipeline.inference import tensorrt_plans
from sluice.pipeline.inference.manifest import BatchSizes
from sluice.pipeline.inference.repository import Model, find_model

STANDIN = Path(__file__).parent / "standin"
collect_ignore = ["standin"]
# For good: who takes a path back takes back what packages have added meanwhile.
sys.path.append(str(STANDIN))

SIZES = BatchSizes(1, 64, 256)
Build = Callable[..., Model]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put the stand-in where TensorRT and the CUDA runtime would be; it must end without leaks."""
    from sluice_standin import cudart, machine, running, trt

    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cudart)
    machine.MACHINE.clear()
    _forget_exporter()
    yield machine.MACHINE
    _forget_exporter()
    assert machine.MACHINE.leaks() == []
    if list(running.ALIVE):
        gc.collect()
    assert not list(running.ALIVE)


def _forget_exporter() -> None:
    """Let the exporter be imported anew: it is bound to the TensorRT that it finds then."""
    sys.modules.pop("sluice.exporters.conversion.tensorrt", None)
    vars(exporters).pop("tensorrt", None)


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of plans, empty."""
    monkeypatch.setenv("SLUICE_ENGINES", str(tmp_path / "engines"))
    return tmp_path / "engines"


@pytest.fixture
def build(machine: Any, engines: Path) -> Build:
    """Return what builds the plan of a model, for up to 256 events at once."""

    def make(model: str | Model, precision: str = "fp32", batch: BatchSizes = SIZES) -> Model:
        from sluice.exporters.conversion import tensorrt

        found = find_model(model) if isinstance(model, str) else model
        tensorrt.build(found, precision, batch, tensorrt_plans.folder(), force=True)
        return found

    return make


@pytest.fixture(scope="session")
def environment() -> Callable[[Path], dict[str, str]]:
    """Return what makes the environment of a process that gets the stand-in."""

    def make(folder: Path) -> dict[str, str]:
        others = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
        return {
            **others,
            "PYTHONPATH": os.pathsep.join([str(STANDIN), str(STANDIN / "names")]),
            "SLUICE_ENGINES": str(folder / "engines"),
            "SLUICE_STATE": str(folder / "state"),
        }

    return make
