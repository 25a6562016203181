"""A tuning that was written is read by runs of the same graph on the same machine only."""

import pytest
from msgspec.structs import replace

from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.tools.autotune import TuningResult, apply, fingerprint, write_tuned


@pytest.fixture
def graph():
    """The graph that only compresses."""
    return load_graph("compress")


def written(graph, path, **other):
    """Write what a measurement might have found."""
    facts = {"graph": graph.graph.name, "fingerprint": fingerprint(graph), "batch_events": 2048,
             "compute": 3, "backends": {"encode": "onnxruntime:cpu"}, "rates": {},
             "nanoseconds": {}}  # fmt: skip
    write_tuned(TuningResult(**(facts | other)), path)
    return path


def test_a_run_uses_what_was_measured(graph, tmp_path):
    """Batch size, workers and backends; nothing else changes."""
    config, word = apply(graph, written(graph, tmp_path / "deep" / "t.toml"))
    assert config.graph.batch_events == 2048
    assert config.workers.compute == 3
    encode = next(part for part in config.stages if part.name == "encode")
    assert encode.options["backend"] == "onnxruntime:cpu"
    assert replace(config, stages=graph.stages, workers=graph.workers, graph=graph.graph) == graph
    assert "t.toml" in word


def test_the_file_of_another_machine_or_graph_is_not_used(graph, tmp_path):
    """It is said, and the graph stays as it is."""
    config, word = apply(graph, written(graph, tmp_path / "t.toml", fingerprint="0" * 64))
    assert config == graph
    assert "another machine or graph" in word


def test_without_a_file_the_graph_is_unchanged(graph, tmp_path):
    """Nobody has to tune."""
    assert apply(graph, tmp_path / "none.toml") == (graph, None)


@pytest.mark.parametrize("text", ["graph = ", 'graph = "x"', "\xff"])
def test_a_file_that_cannot_be_read_is_an_error(graph, tmp_path, text):
    """It names the file; a run with other settings than meant is worse than none."""
    path = tmp_path / "t.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"t\.toml"):
        apply(graph, path)


def test_the_fingerprint_sees_models_and_options_but_not_backends(graph):
    """Another encoder is another graph; the backend is what tuning chooses."""
    stages = [replace(part, options=dict(part.options)) for part in graph.stages]
    encode = next(part for part in stages if part.name == "encode")
    encode.options["backend"] = "onnxruntime:cpu"
    assert fingerprint(replace(graph, stages=tuple(stages))) == fingerprint(graph)
    encode.options["model"] = "wafer-encoder-5b"
    assert fingerprint(replace(graph, stages=tuple(stages))) != fingerprint(graph)
