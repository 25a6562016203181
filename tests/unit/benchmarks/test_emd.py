"""The benchmark of Earth mover's distances: its keys, its agreement with POT, its refusals."""

import json
import sys

import msgspec
import pytest
from typer.testing import CliRunner

from sluice.benchmarks.emd import measure_emd
from sluice.pipeline.cli.main import app
from sluice.pipeline.core.errors import ConfigError, ModelError
from sluice.pipeline.inference.repository import find_model, write_model


@pytest.mark.modules("ot")
def test_reports_exact_and_every_surrogate():
    done = CliRunner().invoke(app, ["bench", "emd", "--pairs", "30", "--repeats", "1", "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    exact = result["exact"]
    assert set(exact["kinds"]) == {"dense", "sparse", "near"}
    assert exact["max_relative_error"] < 1e-9
    assert 0 < exact["seconds_per_pair"] < exact["pot_seconds_per_pair"]
    assert exact["speedup_over_pot"] > 1
    assert "wafer-emd" in result["surrogates"]
    for surrogate in result["surrogates"].values():
        assert surrogate["seconds_per_pair"] > 0
        assert surrogate["speedup_over_pot"] > 1


def test_without_pot_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ConfigError, match="POT") as caught:
        measure_emd(1, 1)
    assert "train" in str(caught.value.hint)


@pytest.mark.modules("ot")
def test_refuses_a_surrogate_of_something_else(monkeypatch, tmp_path):
    model = find_model("wafer-tagger")
    inputs, outputs = model.golden()
    other = msgspec.structs.replace(model.manifest, name="wafer-emd-other")
    write_model(tmp_path, other, model.path.read_bytes(), inputs, outputs)
    monkeypatch.setenv("SLUICE_MODELS", str(tmp_path))
    with pytest.raises(ModelError, match="wafer-emd-other"):
        measure_emd(1, 1)
