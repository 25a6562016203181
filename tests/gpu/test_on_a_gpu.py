"""What only a real GPU can show. `make gpu-check` runs these; elsewhere they are skipped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.gpu import nvml
from sluice.pipeline.gpu.cuda import Cuda
from sluice.pipeline.inference import tensorrt_plans
from sluice.pipeline.inference.repository import find_model
from sluice.pipeline.inference.session import open_session

pytestmark = pytest.mark.gpu

BACKENDS = ("onnxruntime:cuda", "onnxruntime:tensorrt", "tensorrt")
SLUICE = str(Path(sys.executable).parent / "sluice")


def sluice(*words, cwd):
    return subprocess.run(
        [SLUICE, *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLUICE_ENGINES", str(folder))
        yield folder


def build(name):
    from sluice.exporters.conversion import tensorrt

    model = find_model(name)
    root = tensorrt_plans.folder()
    tensorrt.build(model, model.manifest.precision, model.manifest.batch, root, force=True)


def test_the_doctor_finds_nothing_missing(tmp_path):
    done = sluice("doctor", "--gpu", "--json", cwd=tmp_path)
    missing = [f for f in json.loads(done.stdout)["findings"] if f["status"] == "error"]
    assert missing == []
    assert done.returncode == 0


def test_nvml_and_cuda_speak_of_the_same_gpu():
    gpus = nvml.load()
    assert gpus is not None
    names = {nvml.GpuProbe(gpus, n).sample().name for n in range(gpus.nvmlDeviceGetCount())}
    sample = nvml.GpuProbe(gpus, 0).sample()
    gpus.nvmlShutdown()
    assert Cuda(0).gpu().name in names
    assert sample.errors == 0
    assert 0 <= sample.busy <= 1
    assert 0 < sample.memory_used < sample.memory_total
    assert sample.power_w > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_batches_of_every_size(backend, engines):
    """Sizes around those that are padded to, and one that goes in pieces; again and again."""
    model = find_model("wafer-encoder-9b")
    if backend == "tensorrt":
        build("wafer-encoder-9b")
    session, reference = (open_session(model, b, "here") for b in (backend, "onnxruntime:cpu"))
    rng = np.random.default_rng(1)
    for _ in range(3):
        for events in (1, 255, 256, 257, 4096, 4097, 16384, 2):
            image = rng.random((events, 8, 8), np.float32)
            got, expected = (np.empty((events, 16), np.float32) for _ in range(2))
            session.infer({"image": image}, {"latent": got})
            reference.infer({"image": image}, {"latent": expected})
            np.testing.assert_allclose(got, expected, atol=model.manifest.tolerance)
    session.close()
    reference.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_decisions_are_those_of_the_cpu(backend, engines, tmp_path):
    """Both engines; where a score is at a threshold, rounding may decide: at most one in 10,000."""
    done = sluice("simulate", "wafers", "--events", 20_000, "--out", "w.arrows", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if backend == "tensorrt":
        for name in ("encoder-9b", "tagger"):
            for width in ("", "-half", "-quarter"):
                build(f"wafer-{name}{width}")
    accepted = {}
    for chosen, engine in (("layers", "inline"), (backend, "inline"), (backend, "distributed")):
        done = sluice(
            "replay", "w.arrows", "--graph", "hgcal", "--backend", chosen, "--engine", engine,
            "--out", f"{len(accepted)}.arrows", "--json", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["closed"]
        assert {m["backend"].split(":")[0] for m in report["models"].values()} == {
            chosen.split(":")[0]
        }
        accepted[chosen, engine] = report["events"]["accepted"]
    assert accepted[backend, "inline"] == accepted[backend, "distributed"]
    assert abs(accepted[backend, "inline"] - accepted["layers", "inline"]) <= 2


def test_a_gpu_that_is_not_there(tmp_path):
    done = sluice("run", "hgcal", "--backend", "onnxruntime:cuda:63", cwd=tmp_path)
    assert done.returncode == 4
    assert "GPU 63" in done.stderr


def test_stages_in_a_row_give_what_the_cpu_gives(engines):
    """Unpack, normalise, encode and pack on the device; a latent may round to the next step."""
    from sluice.exporters.families.wafers.simulation.wafers import simulate
    from sluice.pipeline.config.graph_file import load_graph
    from sluice.pipeline.config.plugins import build as part
    from sluice.pipeline.graph.graph import build_graph

    build("wafer-encoder-9b")
    words = simulate(5000, seed=3)["words"]
    made = {}
    for name in ("hgcal-gpu", "compress"):
        config = load_graph(name)
        source, sink = (part(kind, getattr(config, kind), "test") for kind in ("source", "sink"))
        batch = EventBatch({"words": words, "outcome": np.zeros(len(words), np.uint8)}, len(words))
        for stage in build_graph(config, source.schema, sink.columns).stages:
            if stage.name in ("unpack", "normalise", "encode", "pack"):
                stage.open(len(words))
                batch = stage.process(batch)
                stage.close()
        made[name] = {c: batch[c].copy() for c in ("latent_q", "sum_q", "packed")}
    gpu, cpu = made["hgcal-gpu"], made["compress"]
    np.testing.assert_array_equal(gpu["sum_q"], cpu["sum_q"])
    same = (gpu["packed"] == cpu["packed"]).all(axis=1)
    assert same.mean() > 0.99
    step = 2.0**-7
    np.testing.assert_allclose(gpu["latent_q"], cpu["latent_q"], atol=step)
