"""ONNX Runtime's way to a GPU on a stand-in: what is bound, copied, padded, captured, refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from msgspec.structs import replace

from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.gpu.cuda import GpuInfo
from sluice.pipeline.inference import onnxruntime_gpu
from sluice.pipeline.inference.manifest import BatchSizes
from sluice.pipeline.inference.repository import find_model
from sluice.pipeline.inference.session import open_session

CPU = "CPUExecutionProvider"
SIZES = BatchSizes(1, 64, 512)


class Binding:
    def __init__(self, number):
        self.number, self.inputs, self.outputs = number, {}, {}

    def bind_input(self, name, kind, number, dtype, shape, address):
        self._bind(self.inputs, name, kind, number, dtype, shape, address)

    def bind_output(self, name, kind, number, dtype, shape, address):
        self._bind(self.outputs, name, kind, number, dtype, shape, address)

    def _bind(self, into, name, kind, number, dtype, shape, address):
        assert (kind, number) == ("cuda", self.number)
        into[name] = (address, shape, np.dtype(dtype))


class Session:
    """A session of a GPU's provider: infers on the CPU what lies in the stand-in's memory."""

    def __init__(self, runtime, path, options, *, providers, provider_options, enable_fallback):
        assert enable_fallback == 0
        assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        if runtime.failure:
            raise RuntimeError(runtime.failure)
        self._runtime, self._providers = runtime, providers
        self.options = dict(zip(providers, provider_options, strict=True))
        self._stream = int(provider_options[0]["user_compute_stream"])
        self._graphs = self.options["CUDAExecutionProvider"]["enable_cuda_graph"] == "1"
        self._real = onnxruntime.InferenceSession(path, providers=[CPU])
        self.get_inputs, self.get_outputs = self._real.get_inputs, self._real.get_outputs
        self.captured: dict[str, Binding | None] = {}
        self.bindings: list[Binding] = []
        self.seen: list[dict[str, Any]] = []
        runtime.sessions.append(self)

    def get_providers(self):
        return [CPU] if self._runtime.falls_back else [*self._providers, CPU]

    def io_binding(self):
        self.bindings.append(Binding(int(self.options["CUDAExecutionProvider"]["device_id"])))
        return self.bindings[-1]

    def run_with_iobinding(self, binding, options):
        from sluice_standin.machine import MACHINE, Op, Stream

        assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        if self._graphs:
            graph = options.get_run_config_entry("gpu_graph_id")
            if graph in self.captured:  # a graph replays what was bound when it was captured
                assert self.captured[graph] in (None, binding)
                self.captured[graph] = binding
            self.captured.setdefault(graph, None)

        def spans(bound):
            return [(at, int(np.prod(shape)) * kind.itemsize) for at, shape, kind in bound.values()]

        work = Op("run", spans(binding.inputs), spans(binding.outputs), lambda: lambda: run())

        def run():
            fed = {name: self._array(*where) for name, where in binding.inputs.items()}
            self.seen.append({name: array.copy() for name, array in fed.items()})
            names = list(binding.outputs)
            for name, made in zip(names, self._real.run(names, fed), strict=True):
                self._array(*binding.outputs[name])[:] = made

        MACHINE.submit(MACHINE.get(self._stream, Stream), work)

    def _array(self, address, shape, kind):
        from sluice_standin.machine import MACHINE

        nbytes = int(np.prod(shape)) * kind.itemsize
        return MACHINE.memory(address, nbytes, "device", "run").view(kind).reshape(shape)


@pytest.fixture
def runtime(machine, engines, monkeypatch):
    """ONNX Runtime with providers for GPUs, of which all libraries are there."""
    about = SimpleNamespace(sessions=[], falls_back=False, failure="")
    monkeypatch.setattr(onnxruntime_gpu, "require", lambda kind, number: None)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")  # taken back behind the test
    fake = SimpleNamespace(
        InferenceSession=lambda *words, **options: Session(about, *words, **options),
        SessionOptions=onnxruntime.SessionOptions, RunOptions=onnxruntime.RunOptions,
        __version__="1.31.1",
    )  # fmt: skip
    monkeypatch.setattr(onnxruntime_gpu, "ort", fake)
    return about


def sized(model):
    return replace(model, manifest=replace(model.manifest, batch=SIZES))


def infer(session, model, inputs):
    events = len(next(iter(inputs.values())))
    outputs = {t.name: t.column.empty(events) for t in model.manifest.outputs}
    session.infer(inputs, outputs)
    return outputs


def drawn(model, events):
    golden, _ = model.golden()
    rows = np.random.default_rng(events).integers(0, len(next(iter(golden.values()))), events)
    return {name: np.ascontiguousarray(array[rows]) for name, array in golden.items()}


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
@pytest.mark.parametrize("name", ["wafer-tagger", "antihydrogen"])
def test_same_as_the_cpu_at_every_size(runtime, device, name):
    model = sized(find_model(name))
    session = open_session(model, f"onnxruntime:{device}", "here")
    reference = open_session(model, "onnxruntime:cpu", "here")
    for events in (1, 255, 257, 512, 513, 1100, 3):
        inputs = drawn(model, events)
        expected = infer(reference, model, inputs)
        for tensor, array in infer(session, model, inputs).items():
            np.testing.assert_allclose(array, expected[tensor], atol=2e-6)
    session.close()
    reference.close()


def test_bound_and_captured_once_for_each_size(runtime, machine):
    model = sized(find_model("wafer-tagger"))
    session = open_session(model, "onnxruntime:cuda", "here")
    (made,) = runtime.sessions
    assert len(made.bindings) == 2  # 256 and 512
    assert all(made.captured.values())
    for events in (1, 300, 512, 700, 40):
        infer(session, model, drawn(model, events))
    assert len(made.bindings) == 2
    assert {len(seen["sum_q"]) for seen in made.seen} == {256, 512}
    few = made.seen[-1]["latent_q"]
    assert few[:40].any()
    assert not few[40:].any()  # what was there before is gone
    session.close()


@pytest.mark.parametrize("device", ["cuda", "tensorrt:0"])
def test_lists_of_any_length(runtime, device, list_sum, tmp_path):
    model = sized(list_sum(tmp_path / "models"))
    session = open_session(model, f"onnxruntime:{device}", "here")
    reference = open_session(model, "onnxruntime:cpu", "here")
    rng = np.random.default_rng(1)
    for events, width in ((3, 20), (700, 4), (1, 1), (512, 20)):
        inputs = {
            "tracks": rng.normal(size=(events, width, 3)).astype(np.float32),
            "real": rng.integers(0, 2, (events, width)).astype(np.float32),
            "number": rng.integers(0, width, events),
            "scale": rng.normal(size=events).astype(np.float32),
        }
        expected = infer(reference, model, inputs)
        for tensor, array in infer(session, model, inputs).items():
            np.testing.assert_allclose(array, expected[tensor], rtol=1e-6)
    assert not runtime.sessions[0].captured
    session.close()
    reference.close()


def test_tensorrt_s_provider_comes_before_cuda_s_and_keeps_its_engines(runtime, engines):
    model = sized(find_model("wafer-tagger"))
    session = open_session(model, "onnxruntime:tensorrt", "here")
    (made,) = runtime.sessions
    assert list(made.options) == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    options = made.options["TensorrtExecutionProvider"]
    cache = onnxruntime_gpu.Path(options["trt_engine_cache_path"])
    assert cache.is_dir()
    assert cache.is_relative_to(engines / "onnxruntime")
    assert options["trt_profile_max_shapes"] == "latent_q:512x16,sum_q:512"
    assert made.options["CUDAExecutionProvider"]["enable_cuda_graph"] == "0"
    session.close()


def test_engines_are_for_one_gpu_driver_version_and_model(tmp_path, monkeypatch):
    model = sized(find_model("wafer-tagger"))
    gpu = GpuInfo("NVIDIA H100", "9.0", "13.0")
    changed = {
        "gpu": (model, replace(gpu, name="NVIDIA A100")),
        "driver": (model, replace(gpu, driver="13.1")),
        "model": (sized(find_model("wafer-tagger-half")), gpu),
        "sizes": (find_model("wafer-tagger"), gpu),
    }
    place = onnxruntime_gpu.engine_cache(tmp_path, model, gpu)
    assert place == onnxruntime_gpu.engine_cache(tmp_path, model, gpu)
    places = {onnxruntime_gpu.engine_cache(tmp_path, *what) for what in changed.values()}
    monkeypatch.setattr(onnxruntime_gpu, "ort", SimpleNamespace(__version__="1.32.0"))
    places.add(onnxruntime_gpu.engine_cache(tmp_path, model, gpu))
    assert len(places | {place}) == 6


def refusal(model, backend="onnxruntime:cuda"):
    with pytest.raises(ModelError) as caught:
        open_session(model, backend, "here")
    return str(caught.value)


def test_a_provider_that_is_not_used_is_refused_and_leaves_nothing(runtime):
    runtime.falls_back = True
    text = refusal(find_model("wafer-tagger"))
    assert "expected CUDAExecutionProvider, got CPUExecutionProvider" in text
    assert "sluice doctor --gpu" in text


def test_a_session_that_cannot_be_made_leaves_nothing(runtime):
    runtime.failure = "assigned to the default CPU EP, but fallback has been disabled"
    assert runtime.failure in refusal(find_model("wafer-tagger"), "onnxruntime:tensorrt")


def test_a_gpu_that_is_not_there(runtime):
    assert "GPU 3" in refusal(find_model("wafer-tagger"), "onnxruntime:cuda:3")


def test_golden_outputs_that_are_not_reproduced_leave_nothing(runtime, monkeypatch):
    real = onnxruntime_gpu.OnnxRuntimeGpuSession.infer

    def wrong(self, inputs, outputs):
        real(self, inputs, outputs)
        next(iter(outputs.values()))[0] += 1

    monkeypatch.setattr(onnxruntime_gpu.OnnxRuntimeGpuSession, "infer", wrong)
    assert "golden" in refusal(find_model("wafer-tagger"))


def test_no_memory_for_a_model_leaves_nothing(runtime, monkeypatch):
    from sluice_standin import cudart

    monkeypatch.setattr(cudart, "DEVICE_BYTES", 1000)
    assert "cudaErrorMemoryAllocation" in refusal(find_model("wafer-tagger"))
