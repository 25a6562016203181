"""A backend of a GPU that cannot be had is refused, by name; the CPU never steps in."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.errors import ConfigError, ModelError
from sluice.pipeline.gpu import cuda
from sluice.pipeline.graph.model_backends import override_backend
from sluice.pipeline.inference import onnxruntime_providers as providers
from sluice.pipeline.inference.manifest import BatchSizes, Tensor
from sluice.pipeline.inference.repository import find_model
from sluice.pipeline.inference.session import open_session, require_backend

ALL = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """Return what puts a runtime in place whose providers' libraries need others, by name."""
    capi = tmp_path / "onnxruntime" / "capi"
    capi.mkdir(parents=True)

    def link(library: Path, *needs: Path) -> None:
        flags = ("-shared", f"-Wl,-soname,{library.name}", "-Wl,--no-as-needed")
        code = ("-x", "c", "/dev/null", "-x", "none")
        subprocess.run(["gcc", *flags, "-o", str(library), *code, *map(str, needs)],
                       check=True, capture_output=True, timeout=60)  # fmt: skip

    def make(built=ALL, **needs: tuple[str, ...]) -> None:
        for kind, names in needs.items():
            made = [tmp_path / name for name in names]
            for library in made:
                link(library)
            link(capi / f"libonnxruntime_providers_{kind}.so", *made)
        there = SimpleNamespace(
            __version__="1.31.1", __file__=str(capi.parent / "__init__.py"),
            get_available_providers=lambda: list(built),
        )  # fmt: skip
        monkeypatch.setattr(providers, "ort", there)
        monkeypatch.setattr(providers, "_OPENED", ())

    return make


def refusal(backend):
    with pytest.raises(ModelError) as caught:
        require_backend(backend, "here")
    return caught.value


@pytest.mark.programs("gcc")
def test_a_runtime_for_the_cpu_alone(runtime):
    runtime(["AzureExecutionProvider", "CPUExecutionProvider"])
    error = refusal("onnxruntime:cuda")
    assert "built without CUDAExecutionProvider" in error.message
    assert "sluice-daq[gpu]" in error.hint


@pytest.mark.programs("gcc")
def test_missing_libraries_are_named_with_their_commands(runtime):
    runtime(cuda=("libcublas-absent.so.13", "libcuda.absent.so.1"))
    error = refusal("onnxruntime:cuda:1")
    assert "'onnxruntime:cuda:1'" in error.message
    assert "libcublas-absent.so.13, libcuda.absent.so.1" in error.message
    assert "onnxruntime-gpu[cuda,cudnn]" in error.hint
    assert "nvidia-driver" in error.hint


@pytest.mark.programs("gcc")
def test_tensorrt_needs_what_cuda_needs_too(runtime):
    runtime(cuda=("libcublas-absent.so.13",), tensorrt=("libnvinfer-absent.so.10",))
    error = refusal("onnxruntime:tensorrt")
    assert "libnvinfer-absent.so.10, libcublas-absent.so.13" in error.message
    assert "tensorrt-cu13==10.16.*" in error.hint


@pytest.mark.programs("gcc")
def test_what_is_opened_only_later_is_asked_for_too(runtime, monkeypatch):
    runtime(cuda=())
    monkeypatch.setattr(cuda, "Cuda", lambda number: None)
    require_backend("onnxruntime:cuda", "here")
    monkeypatch.setattr(providers, "_OPENED", ("libcudnn-absent.so.9",))
    assert "libcudnn-absent.so.9" in refusal("onnxruntime:cuda").message


@pytest.mark.programs("gcc")
def test_a_provider_without_its_library(runtime):
    runtime()
    assert "libonnxruntime_providers_cuda.so" in refusal("onnxruntime:cuda").message


@pytest.mark.programs("gcc")
def test_a_session_is_refused_like_the_backend(runtime):
    runtime(cuda=("libcublas-absent.so.13",))
    with pytest.raises(ModelError, match=r"libcublas-absent\.so\.13"):
        open_session(find_model("wafer-tagger"), "onnxruntime:cuda", "here")


@pytest.mark.parametrize("device", ["cuba", "cuda:", "cuda:x", "cpu:1", "tensorrt:-1"])
def test_devices_that_are_none(device):
    assert "no device" in refusal(f"onnxruntime:{device}").message


def test_backends_on_the_cpu_are_never_refused():
    for backend in ("layers", "layers:cpu", "onnxruntime", "onnxruntime:cpu"):
        require_backend(backend, "here")


def test_all_models_of_a_graph_go_to_one_backend():
    config = override_backend(load_graph("hgcal"), "onnxruntime:cuda:1")
    backends = {part.name: part.options.get("backend") for part in config.stages}
    assert backends == {"unpack": None, "normalise": None, "encode": "onnxruntime:cuda:1",
                        "pack": None, "tag": "onnxruntime:cuda:1", "menu": None}  # fmt: skip
    none = replace(config, stages=config.stages[:2])
    with pytest.raises(ConfigError, match="expected a stage that runs a model"):
        override_backend(none, "layers")


def lists_and_numbers(model):
    inputs = (
        Tensor("tracks", "float32", (3,), max_items=20),
        Tensor("real", "float32", mask="tracks"),
        Tensor("number", "int64", length="tracks"),
        Tensor("scale", "float32"),
    )
    manifest = replace(
        model.manifest, inputs=inputs, precision="int8", batch=BatchSizes(2, 64, 512)
    )
    return replace(model, manifest=manifest)


def test_shapes_of_tensorrt_s_profile(tmp_path):
    model = lists_and_numbers(find_model("wafer-tagger"))
    options = providers.tensorrt_options(model, 1, 77, tmp_path / "engines")
    assert options["trt_profile_min_shapes"] == "tracks:2x1x3,real:2x1,number:2,scale:2"
    assert options["trt_profile_opt_shapes"] == "tracks:64x20x3,real:64x20,number:64,scale:64"
    assert options["trt_profile_max_shapes"] == "tracks:512x20x3,real:512x20,number:512,scale:512"
    assert (options["trt_int8_enable"], options["trt_fp16_enable"]) == ("1", "0")
    assert (options["device_id"], options["user_compute_stream"]) == ("1", "77")
    assert options["trt_timing_cache_path"] == str(tmp_path)


@pytest.mark.parametrize(("captured", "said"), [(True, "1"), (False, "0")])
def test_options_of_cuda(captured, said):
    options = providers.cuda_options(0, 5, captured=captured)
    assert options["enable_cuda_graph"] == said
    assert options["use_tf32"] == "0"
