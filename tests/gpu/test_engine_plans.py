"""From ONNX to a plan: precision, profiles, timing cache, progress, reports, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from msgspec.structs import replace

from sluice.pipeline.core.errors import ConfigError, ModelError
from sluice.pipeline.inference import tensorrt_plans
from sluice.pipeline.inference.manifest import BatchSizes
from sluice.pipeline.inference.repository import Model, find_model, write_model

Build = Callable[..., Model]


def _about(plan: Path) -> Any:
    return json.loads(plan.read_bytes().split(b"\n")[1])


def _built(model: str | Model, precision: str, root: Path, **options: Any) -> Any:
    from sluice.exporters.conversion import tensorrt

    found = find_model(model) if isinstance(model, str) else model
    return tensorrt.build(found, precision, BatchSizes(1, 8, 16), root, **options)


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", False), ("tf32", True)])
def test_ten_bit_products_only_where_asked_for(
    precision: str, tf32: bool, machine: Any, tmp_path: Path
) -> None:
    built = _built("wafer-tagger", precision, tmp_path)
    assert _about(built.file)["tf32"] is tf32
    assert built.fingerprint.precision == precision


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_fewer_bits_come_from_the_variant_that_ships(
    precision: str, machine: Any, tmp_path: Path
) -> None:
    built = _built("jet-tagger-disco", precision, tmp_path)
    variant = find_model(f"jet-tagger-disco-{precision}")
    assert built.file.read_bytes().endswith(variant.path.read_bytes())
    assert built.fingerprint.sha256 == find_model("jet-tagger-disco").manifest.sha256


def test_without_a_variant_the_graph_is_quantised(machine: Any, tmp_path: Path) -> None:
    plan = _built("wafer-tagger", "int8", tmp_path).file.read_bytes().split(b"\n", 2)[2]
    operators = {node.op_type for node in onnx.load_from_string(plan).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators


def test_no_more_bits_come_of_fewer(machine: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="it is int8: no graph in fp16 comes of it"):
        _built("jet-tagger-disco-int8", "fp16", tmp_path)


def test_the_profile_covers_events_and_lists(
    machine: Any, tmp_path: Path, list_sum: Callable[..., Model]
) -> None:
    built = _built(list_sum(tmp_path / "models"), "fp32", tmp_path)
    profile = {n: (r.min, r.opt, r.max) for n, r in built.fingerprint.profile.items()}
    assert profile == {
        "tracks": ((1, 1, 3), (8, 20, 3), (16, 20, 3)),
        "real": ((1, 1), (8, 20), (16, 20)),
        "number": ((1,), (8,), (16,)),
        "scale": ((1,), (8,), (16,)),
    }


def test_lists_of_one_length_stay_so(
    machine: Any, tmp_path: Path, list_sum: Callable[..., Model]
) -> None:
    built = _built(list_sum(tmp_path / "models", fixed=5), "fp32", tmp_path)
    assert built.fingerprint.profile["tracks"].min == (1, 5, 3)


def test_the_timing_cache_goes_on(machine: Any, tmp_path: Path) -> None:
    for builds in (1, 2):
        _built("wafer-tagger", "fp32", tmp_path, force=builds > 1)
        (cache,) = tmp_path.glob("*.timing")
        assert cache.read_bytes() == builds * b"."


@pytest.mark.parametrize("foreign", ["plan", "fingerprint", "layers"])
def test_nothing_is_replaced_unasked_or_that_no_build_wrote(
    foreign: str, machine: Any, tmp_path: Path
) -> None:
    layers = tmp_path / "layers.json"
    built = _built("wafer-tagger", "fp32", tmp_path, layers=layers)
    files = {"plan": built.file, "fingerprint": built.file.with_suffix(".json"), "layers": layers}
    before = {path: path.read_bytes() for path in files.values()}
    with pytest.raises(ConfigError, match="exists already"):
        _built("wafer-tagger", "fp32", tmp_path)
    _built("wafer-tagger", "fp32", tmp_path, layers=layers, force=True)
    assert {path: path.read_bytes() for path in before} == before
    files[foreign].write_text("mine")
    if foreign == "plan":  # without a fingerprint it may be anything
        files["fingerprint"].unlink()
    with pytest.raises(ConfigError, match="to replace, got a file that is none"):
        _built("wafer-tagger", "fp32", tmp_path, layers=layers, force=True)
    assert files[foreign].read_text() == "mine"


def test_what_each_layer_became_is_reported(machine: Any, tmp_path: Path) -> None:
    _built("wafer-tagger", "fp32", tmp_path, layers=tmp_path / "layers.json")
    layers = json.loads((tmp_path / "layers.json").read_text())["Layers"]
    assert {"Gemm", "Softmax"} <= {layer["LayerType"] for layer in layers}


def test_a_node_that_tensorrt_does_not_take_is_named(machine: Any, tmp_path: Path) -> None:
    model = find_model("wafer-tagger")
    graph = onnx.load(model.path)
    graph.graph.node[2].op_type, graph.graph.node[2].name = "Unheard", "the third"
    inputs, outputs = model.golden()
    odd = write_model(tmp_path, replace(model.manifest, layers=""), graph.SerializeToString(),
                      inputs, outputs)  # fmt: skip
    with pytest.raises(ModelError, match=r"node 2 'the third' \(Unheard\): Plugin not found"):
        _built(odd, "fp32", tmp_path)


def test_an_engine_that_does_not_come_about_says_why(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sluice.exporters.conversion import tensorrt

    monkeypatch.setattr(tensorrt, "_open", lambda size, axis, events, items: 0)
    with pytest.raises(ModelError, match="builds no engine of it: optimization profile 0 is not"):
        _built("wafer-tagger", "fp32", tmp_path)


def test_an_interrupt_ends_the_build(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.progress import Progress

    def interrupt(self: Progress, task: Any, completed: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _built("wafer-tagger", "fp32", tmp_path)
    assert not list(tmp_path.rglob("*.plan"))


def test_progress_ends_with_no_phase_left(machine: Any, tmp_path: Path) -> None:
    from rich.progress import Progress
    from sluice_standin.building import _progress

    from sluice.exporters.conversion import tensorrt

    with Progress(disable=True) as bars:
        assert _progress(tensorrt._Monitor(bars), 3)
        assert not bars.tasks


@pytest.mark.parametrize("text", ["", "1,2", "0,1,2", "4,2,8", "1,8,4", "1,2,9999999", "a,b,c"])
def test_batches_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected least, usual and most events"):
        tensorrt_plans.parse_batch(text)
    assert tensorrt_plans.parse_batch("1, 2,3") == BatchSizes(1, 2, 3)


def test_plans_lie_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLUICE_ENGINES", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tensorrt_plans.folder() == tmp_path / "sluice" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tensorrt_plans.folder() == tmp_path / ".cache" / "sluice" / "engines"
    monkeypatch.setenv("SLUICE_ENGINES", str(tmp_path))
    assert tensorrt_plans.folder() == tmp_path


def test_golden_inputs_are_what_int8_is_calibrated_with() -> None:
    inputs, _ = find_model("wafer-tagger").golden()
    assert len(inputs["latent_q"]) >= 16
    assert np.isfinite(inputs["sum_q"]).all()
