"""Stages on a GPU in a row give what they give on the CPU, with one trip there and back."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sluice.exporters.families.wafers.simulation.wafers import simulate
from sluice.pipeline.config.strict import strict_convert
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.errors import ConfigError, ModelError
from sluice.pipeline.core.schema import OUTCOME
from sluice.pipeline.detectors.wafer import Normalise, Pack, Unpack
from sluice.pipeline.inference.manifest import BatchSizes
from sluice.pipeline.inference.repository import Model
from sluice.pipeline.stages.gpu_chain import GpuChain
from sluice.pipeline.stages.infer import Infer

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="a GPU is there: no simulator of it"
)
Build = Callable[..., Model]

MODEL = "wafer-encoder-9b"
STEPS: tuple[dict[str, Any], ...] = (
    {"use": "wafer.unpack"},
    {"use": "wafer.normalise"},
    {"use": "infer", "model": MODEL},
    {"use": "wafer.pack", "bits": 9},
)
MENU = {"use": "menu", "path": [{"name": "all", "where": "sum_q > 0"}]}
COLUMNS = ("latent", "packed", "latent_q", "sum_q")


def _device(**options: Any) -> GpuChain:
    tables = {"steps": STEPS, "columns": COLUMNS, **options}
    return GpuChain("encode", strict_convert(tables, GpuChain.Options, "test"))


def _on_cpu(batch: EventBatch, first: int = 0) -> EventBatch:
    stages = [Unpack("unpack", Unpack.Options()), Normalise("encode", Normalise.Options()),
              Infer("infer", Infer.Options(model=MODEL)),
              Pack("pack", Pack.Options(9))]  # fmt: skip
    for stage in stages[first:]:
        stage.open(batch.events)
        batch = stage.process(batch)
        stage.close()
    return batch


def _wafers(events: int) -> EventBatch:
    columns = simulate(events, seed=3)
    outcome = np.zeros(events, np.uint8)
    return EventBatch({"words": columns["words"], OUTCOME.name: outcome}, events)


def test_wafers_come_out_as_from_the_cpu(build: Build, machine: Any) -> None:
    build(MODEL, batch=BatchSizes(1, 32, 32))
    stage = _device()
    assert stage.consumes.names == ("words",)
    assert stage.provides.names == COLUMNS
    stage.open(100)
    machine.counts.clear()
    batch = _wafers(100)
    got, expected = stage.process(batch), _on_cpu(batch)
    for column in COLUMNS:
        np.testing.assert_array_equal(got[column], expected[column], err_msg=column)
    pieces = 4
    assert machine.counts == {
        "copy pinned to device": pieces, "kernel": 3 * pieces, "engine": pieces, "graph": pieces,
        "copy device to pinned": (len(COLUMNS) + 1) * pieces, "event": pieces,
    }  # fmt: skip
    assert stage.report(10) == {"compression": {"bits_in": 3360, "bits_out": 1530}}
    assert stage.model_info()["backend"] == "tensorrt"
    stage.close()


def test_bad_events_are_flagged_as_on_the_cpu(build: Build) -> None:
    build(MODEL, batch=BatchSizes(1, 16, 16))
    stage = _device(steps=STEPS[1:], columns=("packed",))
    assert stage.consumes.names == ("charge",)
    stage.open(64)
    charge = np.random.default_rng(1).random((30, 48), np.float32) * 100
    charge[3, 5], charge[7, 0], charge[20, 47] = np.nan, -1, np.inf
    batch = EventBatch({"charge": charge, OUTCOME.name: np.zeros(30, np.uint8)}, 30)
    got, expected = stage.process(batch), _on_cpu(batch, 1)
    assert got.flags == expected.flags
    assert np.flatnonzero(got[OUTCOME.name] == Outcome.INVALID).tolist() == [3, 7, 20]
    good = got[OUTCOME.name] == Outcome.OPEN
    np.testing.assert_array_equal(got["packed"][good], expected["packed"][good])
    stage.close()


def test_a_kernel_on_no_stream_is_reported(
    build: Build, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that forgets the stream reads what was not uploaded yet."""
    build(MODEL, batch=BatchSizes(1, 8, 8))
    enqueue = Unpack.enqueue
    monkeypatch.setattr(Unpack, "enqueue", lambda self, columns, stream: enqueue(self, columns, 0))
    stage = _device()
    stage.open(64)
    batch = _wafers(8)
    assert not np.array_equal(stage.process(batch)["packed"], _on_cpu(batch)["packed"])
    stage.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": STEPS[:2]}, "expected one 'infer', got none"),
        ({"steps": (*STEPS, STEPS[2])}, "expected one step 'infer', got more"),
        ({"steps": (MENU, *STEPS)}, "stages that can run on a GPU, got 'menu'"),
        ({"steps": (*STEPS[:2], {**STEPS[2], "ladder": []})}, "unknown field `ladder`"),
        ({"steps": (STEPS[0], *STEPS)}, "two of them write column 'charge'"),
        ({"columns": ("pcked",)}, "no step provides 'pcked'"),
        ({"steps": (*STEPS[:2], {**STEPS[2], "inputs": {"image": "charge"}})}, "expected float32"),
        ({"steps": ()}, "length >= 1"),
    ],
)
def test_steps_that_make_no_chain_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        _device(**options)
    assert message in str(refused.value)


def test_a_model_of_lists_is_no_step(
    tmp_path: Any, list_sum: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    list_sum(tmp_path)
    monkeypatch.setenv("SLUICE_MODELS", str(tmp_path))
    with pytest.raises(ConfigError, match="takes lists"):
        _device(steps=({"use": "infer", "model": "list-sum"},), columns=("total",))


def test_without_its_plan_it_is_refused_and_nothing_is_kept(machine: Any, engines: Any) -> None:
    with pytest.raises(ModelError, match="fp32 plan: none for Stand-in GPU"):
        _device().open(64)
