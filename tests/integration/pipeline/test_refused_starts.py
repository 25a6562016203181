"""`check` and `run` refuse the same starts with the same words, before anything is opened."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from sluice.pipeline.cli.main import app
from sluice.pipeline.core.errors import ModelError, SluiceError
from sluice.pipeline.inference.manifest import Manifest, Tensor
from sluice.pipeline.inference.repository import write_model
from sluice.pipeline.tools.in_memory_run import run
from sluice.pipeline.transport import socket as transport

#: What is replaced in the graph file, and by what.
GRAPHS = {
    "unknown key": ('use = "wafer.unpack"', 'use = "wafer.unpack"\ncolour = 1'),
    "unknown stage": ("wafer.unpack", "wafer.unpak"),
    "missing file": ("wafer.unpack", "mine.py:Unpack"),
    "missing column": ("words = ", "wards = "),
    "wrong dtype": ("uint32[12]", "uint16[12]"),
    "unknown model": ("wafer-encoder-9b", "wafer-encodr-9b"),
    "unknown backend": ('backend = "layers"', 'backend = "leyers"'),
    "absent device": ('backend = "layers"', 'backend = "onnxruntime:cuda"'),
    "unknown sink column": ('"packed"]', '"packd"]'),
    "open to the network": ("127.0.0.1:9464", "0.0.0.0:9464"),
    "unknown path variable": ('use = "recording"', 'use = "recording"\npath = "{event}.arrows"'),
}
OPTIONS = {
    "unknown engine": ["--engine", "fast"],
    "unknown backend": ["--backend", "fast"],
    "absent reference": ["--reference", "nothing.json"],
    "used run number": ["--run", "7"],
}


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The graph `compress`, with a state folder in which run 7 was given."""
    from importlib.resources import files

    state = tmp_path / "state"
    state.mkdir()
    (state / "runs.json").write_text(json.dumps({"given": [[7, 7]]}))
    monkeypatch.setenv("SLUICE_STATE", str(state))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = folder / "graph.toml"
    path.write_text((files("sluice.pipeline") / "graphs" / "compress.toml").read_text())
    return path


def _refusal(arguments: list[str]) -> tuple[str, int]:
    with pytest.raises(SluiceError) as refused:
        app(arguments, standalone_mode=False)
    return str(refused.value), refused.value.exit_code


def _compare(graph: Path, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    bind = transport.Socket.__init__
    monkeypatch.setattr(
        transport.Socket, "__init__", lambda *a, **k: (opened.append(a), bind(*a, **k))[1]
    )
    state = Path(graph.parents[1], "state")
    before = {path: path.read_bytes() for path in state.iterdir()}
    checked = _refusal(["check", str(graph), *options])
    # The default engine's fork server is for a process of its own, so this one has none.
    engine = [] if "--engine" in options else ["--engine", "inline"]
    ran = _refusal(["run", str(graph), *engine, *options, "--report", "new/report.json"])
    assert ran == checked
    assert not opened
    assert {path: path.read_bytes() for path in state.iterdir()} == before
    assert [path.name for path in graph.parent.iterdir()] == ["graph.toml"]


@pytest.mark.parametrize("change", GRAPHS.values(), ids=GRAPHS)
def test_a_broken_graph(graph: Path, change: tuple[str, str], monkeypatch: pytest.MonkeyPatch):
    text = graph.read_text()
    assert change[0] in text
    graph.write_text(text.replace(*change))
    _compare(graph, [], monkeypatch)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_wrong_options(graph: Path, options: list[str], monkeypatch: pytest.MonkeyPatch):
    _compare(graph, options, monkeypatch)


#: Outputs of an event that are no function of it, or not those of the golden file; what is said.
_MODELS = {
    "mean of the batch": (
        "m = ReduceMean<keepdims = 1>(x, axis) y = Sub(x, m)",
        "an event is alone",
    ),
    "noise": ("y = RandomNormalLike(x)", "draws random numbers"),
    "not a number": ("y = Log(x)", "expected finite numbers"),
    "five events only": ("y = Reshape(x, shape)", "cannot run it on 1 events"),
}


def _add_model(root: Path, nodes: str) -> None:
    """Write a model whose golden outputs are what it gives; four numbers an event."""
    import onnx
    import onnxruntime as ort

    text = f"""<ir_version: 10, opset_import: ["": 20]>
        g (float[n, 4] x) => (float[n, 4] y)
        <int64[1] axis = {{0}}, int64[2] shape = {{5, 4}}> {{ {nodes} }}"""
    data = onnx.parser.parse_model(text).SerializeToString()
    x = np.arange(20, dtype=np.float32).reshape(5, 4)
    (y,) = ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    manifest = Manifest(
        name="mine", version=1, family="test", sha256="",
        inputs=(Tensor("x", "float32", (4,)),), outputs=(Tensor("y", "float32", (4,)),),
    )  # fmt: skip
    write_model(root, manifest, data, {"x": x}, {"y": y})


_OWN_GRAPH = """
[graph]
name = "own"
[source]
use = "live"
listen = "tcp://127.0.0.1:5560"
columns = { x = "float32[4]" }
[[stage]]
use = "infer"
model = "mine"
[sink]
use = "recording"
path = "kept.arrows"
columns = ["event_id", "y"]
"""


@pytest.mark.modules("onnx", "onnxruntime")
@pytest.mark.parametrize("case", _MODELS.values(), ids=_MODELS)
def test_a_model_that_fails_its_checks(graph, case, monkeypatch, tmp_path):
    nodes, says = case
    _add_model(tmp_path / "repository", nodes)
    monkeypatch.setenv("SLUICE_MODELS", str(tmp_path / "repository"))
    graph.write_text(_OWN_GRAPH)
    _compare(graph, [], monkeypatch)
    text, code = _refusal(["check", str(graph)])
    assert says in text
    assert code == 4
    with pytest.raises(ModelError) as refused:
        run(graph, {"x": np.zeros((3, 4), np.float32)})
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--resume"], "--resume: expected a source that reads a file"),
        (["--report", "graph.toml/r.json"], "cannot write there"),
        (["--report", "r", "--quarantine", "r"], "expected a file of its own"),
    ],
)
def test_options_of_run_alone(graph, options, says, monkeypatch):
    text, code = _refusal(["run", str(graph), "--engine", "inline", *options])
    assert says in text
    assert code == 2
    assert [path.name for path in graph.parent.iterdir()] == ["graph.toml"]
    assert json.loads((graph.parents[1] / "state" / "runs.json").read_text()) == {"given": [[7, 7]]}


@pytest.mark.parametrize(
    "name", ["antihydrogen", "antihydrogen-cosmics", "compress", "hgcal", "jets"]
)
def test_every_shipped_graph_checks(name: str, capsys: pytest.CaptureFixture[str]):
    app(["check", name, "--json"], standalone_mode=False)
    checked = json.loads(capsys.readouterr().out)
    assert checked["stages"]
    assert checked["graph"] == name


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_a_graph_for_gpus_says_what_is_missing():
    text, code = _refusal(["check", "hgcal-gpu"])
    assert "TensorRT cannot be loaded" in text
    assert "pip install" in text
    assert code == 4
