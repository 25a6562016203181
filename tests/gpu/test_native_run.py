"""Commands as a user types them, native engines beneath: build, run, refuse."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from sluice.exporters.cli import build_engine
from sluice.exporters.families.wafers.simulation.wafers import simulate
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.inference import tensorrt_plans
from sluice.pipeline.inference.manifest import BatchSizes
from sluice.pipeline.recording import Recording, RecordingWriter

SLUICE = Path(sys.executable).with_name("sluice")
WORDS = Schema((EVENT_ID, T_EVENT, Column("words", "uint32", (12,), "link words")))
MODELS = ("wafer-encoder-9b", "wafer-tagger")
EVENTS = 3000

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a recording, and hgcal without its ladder, every event kept."""
    folder = tmp_path_factory.mktemp("native")
    columns = simulate(EVENTS, seed=7)
    batch = EventBatch({column.name: columns[column.name] for column in WORDS}, EVENTS)
    writer = RecordingWriter(folder / "wafers.arrows", WORDS, {})
    writer.write(batch)
    writer.close({})
    graph = tomllib.loads((files("sluice.pipeline.graphs") / "hgcal.toml").read_text())
    for stage in graph["stage"]:
        stage.pop("ladder", None)
    del graph["monitor"]
    graph["graph"]["batch_events"] = 1024
    graph["sink"] = {"use": "recording", "keep": "all",
                     "columns": ["event_id", "packed", "sum_q", "score", "decision"]}  # fmt: skip
    (folder / "wafers.toml").write_text(tomli_w.dumps(graph))
    return folder


@pytest.fixture(scope="module")
def run(place: Path, environment: Callable[[Path], dict[str, str]]) -> Run:
    """Return what runs a command; with the stand-in unless `standin` is false."""

    def type_(*words: Any, standin: bool = True, **variables: str) -> Any:
        env = environment(place) | variables
        if not standin:
            del env["PYTHONPATH"]
        return subprocess.run(
            [SLUICE, *map(str, words)], env=env, cwd=place, capture_output=True, text=True,
            timeout=100,
        )  # fmt: skip

    return type_


def _replay(
    run: Run, name: str, *words: str, graph: str = "wafers.toml", source: str = "wafers.arrows",
    **variables: str,
) -> dict[str, Any]:  # fmt: skip
    done = run("replay", source, "--graph", graph, "--out", f"{name}.arrows", "--json", *words,
               **variables)  # fmt: skip
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["closed"]
    return report


def _kept(place: Path, name: str) -> dict[str, Any]:
    batches = list(Recording(place / f"{name}.arrows").batches())
    joined = {c: np.concatenate([batch[c] for batch in batches]) for c in batches[0].columns}
    order = np.argsort(joined["event_id"])
    return {column: values[order] for column, values in joined.items()}


def _compare(got: dict[str, Any], expected: dict[str, Any]) -> None:
    for column in ("event_id", "decision"):
        np.testing.assert_array_equal(got[column], expected[column])
    np.testing.assert_allclose(got["score"], expected["score"], rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def expected(run: Run, place: Path) -> dict[str, Any]:
    """Return what the CPU decides."""
    _replay(run, "cpu", "--engine", "inline", "--backend", "onnxruntime:cpu")
    kept = _kept(place, "cpu")
    assert len(np.unique(kept["decision"])) > 2
    return kept


def test_engines_are_built_and_a_run_on_them_decides_as_on_the_cpu(
    run: Run, place: Path, expected: dict[str, Any]
) -> None:
    for model in MODELS:
        built = run("build-engine", model, "--batch", "1,128,256", "--json")
        assert built.returncode == 0, built.stderr
        assert json.loads(built.stdout)["profile"].popitem()[1]["max"][0] == 256
    facts_path = place / "standin.json"
    report = _replay(run, "inline", "--engine", "inline", "--backend", "tensorrt",
                     SLUICE_STANDIN_REPORT=str(facts_path))  # fmt: skip
    assert {model["backend"] for model in report["models"].values()} == {"tensorrt"}
    _compare(_kept(place, "inline"), expected)
    facts = json.loads(facts_path.read_text())
    assert facts["leaks"] == []
    assert facts["counts"]["graph"] >= 2 * EVENTS / 256


def test_a_gpu_that_fails_costs_a_worker_and_no_event(
    run: Run, place: Path, expected: dict[str, Any]
) -> None:
    """The worker's death is one like any other: another takes its batches."""
    fails = place / "fails"
    fails.touch()
    report = _replay(run, "failed", "--backend", "tensorrt", SLUICE_STANDIN_LOSE=str(fails))
    assert not fails.exists()
    assert report["restarts"] == {"compute-0": 1}
    assert {report["events"][name] for name in ("failed", "lost", "invalid")} == {0}
    _compare(_kept(place, "failed"), expected)


def test_without_workers_a_gpu_that_fails_ends_the_run(run: Run, place: Path) -> None:
    (place / "fails").touch()
    done = run("replay", "wafers.arrows", "--graph", "wafers.toml", "--engine", "inline",
               "--backend", "tensorrt", SLUICE_STANDIN_LOSE=str(place / "fails"))  # fmt: skip
    assert done.returncode == 5
    assert "error: GPU 0 has failed: cuda" in done.stderr
    assert "cudaErrorIllegalAddress" in done.stderr


def test_stages_on_a_gpu_decide_as_on_the_cpu(
    run: Run, place: Path, build: Callable[..., Any], expected: dict[str, Any]
) -> None:
    few = 24
    for model in MODELS:
        build(model, batch=BatchSizes(1, 8, 8))
    graph = tomllib.loads((files("sluice.pipeline.graphs") / "hgcal-gpu.toml").read_text())
    graph["graph"]["batch_events"] = 8
    graph["sink"] = {"use": "recording", "keep": "all",
                     "columns": ["event_id", "packed", "sum_q", "score", "decision"]}  # fmt: skip
    (place / "device.toml").write_text(tomli_w.dumps(graph))
    batch = next(iter(Recording(place / "wafers.arrows").batches())).slice(0, few)
    writer = RecordingWriter(place / "few.arrows", WORDS, {})
    writer.write(batch)
    writer.close({})
    facts_path = place / "device.json"
    report = _replay(run, "device", "--engine", "inline", graph="device.toml",
                     source="few.arrows", SLUICE_ENGINES=str(tensorrt_plans.folder()),
                     NUMBA_ENABLE_CUDASIM="1", SLUICE_STANDIN_REPORT=str(facts_path))  # fmt: skip
    got = _kept(place, "device")
    for column in ("event_id", "decision", "packed", "sum_q"):
        np.testing.assert_array_equal(got[column], expected[column][:few])
    assert report["compression"]["bits_out"] == few * 153
    facts = json.loads(facts_path.read_text())
    assert facts["leaks"] == []
    assert facts["counts"]["kernel"] % 3 == 0


def test_plans_for_another_gpu_are_refused_with_the_command(run: Run, place: Path) -> None:
    done = run("replay", "wafers.arrows", "--graph", "wafers.toml", "--backend", "tensorrt",
               "--engine", "inline", SLUICE_STANDIN_GPU="Another GPU")  # fmt: skip
    assert done.returncode == 4
    assert "plan was built for GPU Stand-in GPU; this is GPU Another GPU" in done.stderr
    assert "rebuild: sluice build-engine wafer-encoder-9b@1" in done.stderr


@pytest.mark.parametrize(
    ("variables", "message", "hint"),
    [
        ({"standin": False}, "TensorRT cannot be loaded", "pip install 'tensorrt-cu13"),
        ({"SLUICE_STANDIN_DEVICES": "0"}, "no GPU", "nvidia-smi"),
    ],
)
def test_what_a_build_lacks_is_named(
    variables: dict[str, Any], message: str, hint: str, run: Run
) -> None:
    done = run("build-engine", "wafer-tagger", **variables)
    assert done.returncode == 4
    assert message in done.stderr
    assert hint in done.stderr


def test_what_cannot_be_asked_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a precision of fp32, tf32, fp16, int8"):
        build_engine("wafer-tagger", precision="fp8")
    with pytest.raises(ConfigError, match="expected least, usual and most events"):
        build_engine("wafer-tagger", batch="1,2")
