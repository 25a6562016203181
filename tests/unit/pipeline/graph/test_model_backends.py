"""--backend reaches every stage that runs a model, whatever it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from sluice.pipeline.config import plugins
from sluice.pipeline.config.graph_file import GraphConfig, load_graph, parse_graph
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.graph.model_backends import model_stages, override_backend

GPU_CHAIN = """
[graph]
name = "chain"
[source]
use = "live"
columns = { words = "uint32[12]" }
[[stage]]
name = "encode"
use = "gpu-chain"
columns = ["latent_q"]
device = "1"
steps = [
    { use = "wafer.unpack" }, { use = "wafer.normalise" },
    { use = "infer", model = "wafer-encoder-9b" }, { use = "wafer.pack" },
]
[[stage]]
use = "theirs"
[sink]
use = "null"
"""


class Theirs:
    """A stage of somebody else's that runs a model."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        backend: str = "layers"

    consumes = provides = Schema()

    def __init__(self, name: str, options: Options) -> None:
        self.name, self.backend = name, options.backend

    def model_info(self) -> dict[str, str]:
        return {"name": "theirs", "version": "1", "sha256": "", "backend": self.backend}

    def backends(self) -> tuple[str, ...]:
        return ("layers", "tensorrt")


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> GraphConfig:
    found = plugins.load_class

    def load_class(kind: str, use: str, where: str, folder: Path | None = None) -> Any:
        return Theirs if use == "theirs" else found(kind, use, where, folder)

    monkeypatch.setattr(plugins, "load_class", load_class)
    return parse_graph(GPU_CHAIN, "chain.toml")


def _backends(config: GraphConfig) -> dict[str, str]:
    return {name: s.model_info()["backend"] for name, s in model_stages(config).items()}


def test_it_reaches_the_model_within_a_gpu_chain_and_a_stage_of_others(chain: GraphConfig) -> None:
    assert _backends(chain) == {"encode": "tensorrt:1", "theirs": "layers"}
    asked = override_backend(chain, "tensorrt:0:fp16")
    assert _backends(asked) == {"encode": "tensorrt:0:fp16", "theirs": "tensorrt:0:fp16"}
    assert _backends(override_backend(chain, "tensorrt")) == {
        "encode": "tensorrt", "theirs": "tensorrt",
    }  # fmt: skip


def test_the_shipped_graphs_name_their_model_stages() -> None:
    assert list(model_stages(load_graph("hgcal"))) == ["encode", "tag"]
    assert list(model_stages(load_graph("hgcal-gpu"))) == ["encode", "tag"]


def test_a_backend_that_a_stage_cannot_take_is_refused(chain: GraphConfig) -> None:
    with pytest.raises(ConfigError, match=r"stage 'encode': expected backend 'tensorrt', got"):
        override_backend(chain, "onnxruntime:cpu")


def test_a_graph_without_a_model_is_refused() -> None:
    text = GPU_CHAIN.partition("[[stage]]")[0] + '[sink]\nuse = "null"\n'
    with pytest.raises(ConfigError, match="expected a stage that runs a model"):
        override_backend(parse_graph(text, "empty.toml"), "tensorrt")


def test_a_gpu_chain_refuses_another_backend_in_the_graph_file(chain: GraphConfig) -> None:
    text = GPU_CHAIN.replace('device = "1"', 'backend = "layers"')
    with pytest.raises(ConfigError, match="backend: expected 'tensorrt'"):
        model_stages(parse_graph(text, "chain.toml"))
