"""Native engines give what the CPU gives, in pieces of any size, and refuse what is not theirs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import Array
from sluice.pipeline.gpu import cuda
from sluice.pipeline.inference import tensorrt_plans
from sluice.pipeline.inference.manifest import BatchSizes
from sluice.pipeline.inference.repository import Model, find_model
from sluice.pipeline.inference.session import Session, open_session
from sluice.pipeline.stages.infer import Infer

Build = Callable[..., Model]


def _run(session: Session, model: Model, inputs: dict[str, Array]) -> dict[str, Array]:
    events = len(next(iter(inputs.values())))
    outputs = {t.name: t.column.empty(events) for t in model.manifest.outputs}
    session.infer(inputs, outputs)
    return outputs


def _inputs(model: Model, events: int) -> dict[str, Array]:
    golden, _ = model.golden()
    rows = np.random.default_rng(events).integers(0, len(next(iter(golden.values()))), events)
    return {name: array[rows] for name, array in golden.items()}


@pytest.mark.parametrize("name", ["wafer-encoder-9b", "wafer-tagger", "jet-tagger-disco-int8"])
def test_an_engine_gives_what_the_cpu_gives(name: str, build: Build) -> None:
    model = build(name, find_model(name).manifest.precision)
    native = open_session(model, "tensorrt", "test")
    reference = open_session(model, "onnxruntime:cpu", "test")
    for events in (1, 63, 64, 65, 256, 257, 1000):
        inputs = _inputs(model, events)
        expected, got = _run(reference, model, inputs), _run(native, model, inputs)
        for tensor, array in expected.items():
            np.testing.assert_allclose(got[tensor], array, rtol=1e-5, atol=1e-6)
    assert native.backend == f"tensorrt:0:{model.manifest.precision}"
    native.close()


def test_two_pieces_are_under_way_at_once_and_nothing_is_made_anew(
    build: Build, machine: Any
) -> None:
    model = build("wafer-encoder-9b")
    session = open_session(model, "tensorrt:0", "test")
    blocks, things = set(machine.blocks), set(machine.things)
    machine.counts.clear()
    machine.max_busy_streams = 0
    _run(session, model, _inputs(model, 200))
    assert machine.max_busy_streams == 1
    _run(session, model, _inputs(model, 1000))
    assert machine.max_busy_streams == 2
    pieces = 1 + 4
    assert machine.counts == {"copy pinned to device": pieces, "engine": pieces, "graph": pieces,
                              "copy device to pinned": pieces, "event": pieces}  # fmt: skip
    assert (set(machine.blocks), set(machine.things)) == (blocks, things)
    session.close()


def test_lists_are_padded_to_their_buckets(
    build: Build, machine: Any, tmp_path: Path, list_sum: Callable[..., Model],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    build(list_sum(tmp_path / "models"), batch=BatchSizes(1, 64, 256))
    monkeypatch.setenv("SLUICE_MODELS", str(tmp_path / "models"))
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 21, 400)
    lists = Ragged.from_counts(rng.random((counts.sum(), 3), np.float32), counts)
    batch = EventBatch({"tracks": lists, "scale": np.ones(400, np.float32)}, 400)
    results = []
    for backend in ("tensorrt", "onnxruntime:cpu"):
        options = Infer.Options(model="list-sum", backend=backend, buckets={"tracks": (4, 20)})
        stage = Infer("lists", options)
        stage.open(400)
        things = set(machine.things)
        stage.process(batch.slice(0, 5))
        results.append(stage.process(batch))
        assert set(machine.things) == things, "graphs are captured before the first batch"
        stage.close()
    for column in ("total", "length"):
        np.testing.assert_allclose(results[0][column], results[1][column], rtol=1e-6)


def test_a_precision_of_fewer_bits_may_differ_more_where_it_was_asked_for(build: Build) -> None:
    model = build("jet-tagger-disco", "fp16")
    with pytest.raises(ModelError, match=r"fp32 plan: none for Stand-in GPU"):
        open_session(model, "tensorrt", "test")
    session = open_session(model, "tensorrt:0:fp16", "test")
    inputs, expected = model.golden()
    gap = np.abs(_run(session, model, inputs)["signal"] - expected["signal"]).max()
    assert model.manifest.tolerance < gap < tensorrt_plans.TOLERANCE["fp16"]
    session.close()


def test_a_session_that_does_not_reproduce_the_golden_outputs_is_freed(
    build: Build, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("jet-tagger-disco", "fp16")
    monkeypatch.setitem(tensorrt_plans.TOLERANCE, "fp16", 1e-9)
    with pytest.raises(ModelError, match="golden"):
        open_session(model, "tensorrt:fp16", "test")


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("sha256", "0" * 64, "model 0000"),
        ("tensorrt", "11.4.0.106", "TensorRT 11.4.0.106"),
        ("gpu", "NVIDIA A100", "GPU NVIDIA A100"),
        ("capability", "8.0", "capability 8.0"),
        ("driver", "12.8", "CUDA driver 12.8"),
    ],
)
def test_a_plan_for_something_else_is_refused(
    field: str, value: str, named: str, build: Build, engines: Path
) -> None:
    model = build("wafer-tagger")
    (about,) = engines.rglob("*.json")
    facts = json.loads(about.read_text())
    about.write_text(json.dumps({**facts, field: value}))
    with pytest.raises(ModelError) as refused:
        open_session(model, "tensorrt", "test")
    assert f"plan was built for {named}" in refused.value.message
    assert refused.value.hint == "rebuild: sluice build-engine wafer-tagger@1 --force"


def test_a_plan_for_another_gpu_says_for_which(
    build: Build, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sluice_standin import cudart

    model = build("wafer-tagger")
    monkeypatch.setattr(cudart.cudaDeviceProp, "name", b"Another GPU")
    properties = cudart.cudaDeviceProp(b"Another GPU", 8, 0)
    monkeypatch.setattr(cudart, "cudaGetDeviceProperties", lambda device: (0, properties))
    with pytest.raises(ModelError, match=r"built for GPU Stand-in GPU, capability 9\.0; this is"):
        open_session(model, "tensorrt", "test")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda plan: plan.write_bytes(plan.read_bytes()[:-1]), "damaged"),
        (lambda plan: plan.with_suffix(".json").write_text("{"), "cannot read"),
        (lambda plan: plan.unlink(), "none for Stand-in GPU"),
    ],
)
def test_a_damaged_plan_is_refused(
    damage: Callable[[Path], Any], message: str, build: Build, engines: Path
) -> None:
    model = build("wafer-tagger", "tf32")
    (plan,) = engines.rglob("*.plan")
    damage(plan)
    with pytest.raises(ModelError, match=message) as refused:
        open_session(model, "tensorrt:tf32", "test")
    assert "sluice build-engine wafer-tagger@1 --precision tf32" in str(refused.value.hint)


def test_a_plan_that_tensorrt_does_not_take_is_refused(build: Build, engines: Path) -> None:
    model = build("wafer-tagger")
    (plan,) = engines.rglob("*.plan")
    about = msgspec.json.decode(
        plan.with_suffix(".json").read_bytes(), type=tensorrt_plans.Fingerprint
    )
    tensorrt_plans.save_plan(plan, b"no plan", about, replace=True)
    with pytest.raises(ModelError, match="does not take its plan"):
        open_session(model, "tensorrt", "test")


def test_a_plan_of_other_tensors_is_refused(build: Build, engines: Path) -> None:
    tagger, encoder = build("wafer-tagger"), build("wafer-encoder-9b")
    gpu = cuda.Cuda().gpu()
    plan = tensorrt_plans.plan_file(engines, encoder, "fp32", gpu).read_bytes()
    file = tensorrt_plans.plan_file(engines, tagger, "fp32", gpu)
    about = msgspec.json.decode(
        file.with_suffix(".json").read_bytes(), type=tensorrt_plans.Fingerprint
    )
    tensorrt_plans.save_plan(file, plan, about, replace=True)
    with pytest.raises(ModelError, match=r"manifest says inputs \['latent_q', 'sum_q'\]"):
        open_session(tagger, "tensorrt", "test")


@pytest.mark.parametrize("device", ["fp8", "0:1:x", "cuda"])
def test_an_unknown_device_is_refused(device: str, machine: Any) -> None:
    with pytest.raises(ModelError, match="has no device"):
        open_session(find_model("wafer-tagger"), f"tensorrt:{device}", "test")


@pytest.mark.parametrize(("seen", "asked", "message"), [(0, "", "no GPU"), (1, "3", "GPU 3: not")])
def test_a_gpu_that_is_not_there_is_refused(
    seen: int, asked: str, message: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sluice_standin import cudart

    model = build("wafer-tagger")
    monkeypatch.setattr(cudart, "DEVICES", seen)
    with pytest.raises(ModelError, match=message):
        open_session(model, f"tensorrt:{asked}", "test")


def test_too_little_memory_is_an_error_and_leaves_nothing(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sluice_standin import cudart

    model = build("wafer-encoder-9b")
    monkeypatch.setattr(cudart, "DEVICE_BYTES", 1 << 16)
    with pytest.raises(ModelError, match=r"cudaMalloc\(\d+\): cudaErrorMemoryAllocation"):
        open_session(model, "tensorrt", "test")


def test_without_tensorrt_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ModelError, match="TensorRT cannot be loaded") as refused:
        open_session(find_model("wafer-tagger"), "tensorrt", "test")
    assert "pip install 'tensorrt-cu13==10.16.*'" in str(refused.value.hint)
