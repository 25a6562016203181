"""Tuning measures real runs."""

import pytest
from msgspec.structs import replace

from sluice.pipeline.config.graph_file import ComponentConfig, load_graph
from sluice.pipeline.tools.autotune import measure


@pytest.mark.timeout(240)
def test_tuning_measures_every_layout(make_recording, tmp_path, monkeypatch):
    """Real runs: the fastest of them is what the file says."""
    monkeypatch.setattr("sluice.pipeline.tools.autotune.BATCHES", (512, 4096))
    path = make_recording(tmp_path / "some.arrows", 2000, batch=500)
    graph = load_graph("compress")
    unkept = replace(graph, sink=ComponentConfig("null", "null", {}))
    reported = []
    recording = ComponentConfig("recording", "some", {"path": str(path)})
    tuned = measure(unkept, recording, reported.append)
    assert f"{tuned.compute}x{tuned.batch_events}" == max(tuned.rates, key=tuned.rates.get)
    assert set(tuned.nanoseconds["encode"]) == {"layers", "onnxruntime:cpu"}
    assert tuned.backends["encode"] == min(
        tuned.nanoseconds["encode"], key=tuned.nanoseconds["encode"].get
    )
    assert len(reported) == len(tuned.rates) + 1
