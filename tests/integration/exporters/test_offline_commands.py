"""The offline commands, as the command line runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sluice.exporters.cli import register
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.inference.repository import find_model
from sluice.pipeline.recording import RecordingReader


@pytest.fixture
def command():
    app = typer.Typer()
    register(app)

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_simulate_writes_a_whole_recording(command, tmp_path):
    path = tmp_path / "sub" / "wafers.arrows"
    command("simulate", "wafers", "--events", 70_000, "--seed", 9, "--out", path)
    reader = RecordingReader(path)
    batches = list(reader.batches())
    assert sum(batch.events for batch in batches) == 70_000
    assert reader.eor == {"events": 70_000}
    assert reader.corruption is None
    assert reader.bor["seed"] == 9
    assert reader.schema.names == ("event_id", "t_event", "truth", "words")
    again = tmp_path / "again.arrows"
    command("simulate", "wafers", "--events", 70_000, "--seed", 9, "--out", again)
    assert again.read_bytes() == path.read_bytes()


def test_simulate_says_what_is_wrong(command, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'wafers'"):
        command("simulate", "waferz", "--out", tmp_path / "x.arrows")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        command("simulate", "wafers", "--out", tmp_path / "file" / "x.arrows")


def test_simulate_replaces_only_a_recording_and_only_when_asked(command, tmp_path):
    path, notes = tmp_path / "w.arrows", tmp_path / "notes.txt"
    simulate = ("simulate", "wafers", "--events", 100, "--out")
    command(*simulate, path, "--seed", 9)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="exists already"):
        command(*simulate, path, "--seed", 10)
    assert path.read_bytes() == before
    command(*simulate, path, "--seed", 10, "--force")
    assert RecordingReader(path).bor["seed"] == 10
    notes.write_text("mine")
    with pytest.raises(ConfigError, match="expected a recording to replace"):
        command(*simulate, notes, "--force")
    assert notes.read_text() == "mine"


def test_export_replaces_models_of_the_family_by_force_alone(command, tmp_path):
    manifest = tmp_path / "hodoscope" / "1" / "manifest.toml"
    manifest.parent.mkdir(parents=True)
    manifest.write_text('name = "hodoscope"\nfamily = "wafers"\n')
    arguments = ("export", "wafers", "--checkpoints", tmp_path / "none", "--out", tmp_path)
    with pytest.raises(ConfigError, match="expected no models of family 'wafers', got 1"):
        command(*arguments)
    assert manifest.read_text().startswith("name")


@pytest.mark.long
@pytest.mark.train
@pytest.mark.modules("torch", "onnx", "onnxscript", "ot", "matplotlib", "mplhep")
def test_train_export_evaluate(command, recipe, tmp_path, monkeypatch):
    from sluice.exporters.families.wafers import manifest_metrics

    monkeypatch.setattr(manifest_metrics, "EVENTS", 400)
    checkpoints, models, plots = tmp_path / "checkpoints", tmp_path / "models", tmp_path / "plots"
    losses = command("train", "wafers", "--recipe", recipe, "--out", checkpoints, "--json")
    assert set(json.loads(losses)) >= {"shipped-9b-0", "mse-3b-1", "wafer-emd", "tagger"}
    written = command("export", "wafers", "--checkpoints", checkpoints, "--out", models)
    names = {Path(line).parent.name for line in written.split()}
    assert names >= {"wafer-encoder-3b", "wafer-decoder-9b", "wafer-tagger", "wafer-emd"}
    charges = tmp_path / "charges.csv"
    header, row = ",".join(f"CALQ_{i}" for i in range(48)), [0, 70, 90] + [0] * 45
    rows = [row[-shift:] + row[:-shift] for shift in range(1, 40)]
    charges.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]))
    monkeypatch.setenv("SLUICE_MODELS", str(models))
    options = ("--data", charges, "--plots", plots)
    found = json.loads(command("evaluate", "wafers", *options, "--json"))
    assert found["sample"] == {"rows": 39, "unseen": 39, "hard": 39}
    assert set(found) == {
        "surrogates",
        "codecs",
        "gains",
        "exact",
        "tagger",
        "widths",
        "sample",
        "models",
    }
    assert set(found["surrogates"]["wafer-emd"]) == {"multiply_adds", "seconds_per_pair", "regimes"}
    assert set(found["surrogates"]["wafer-emd"]["regimes"]["random"]) == {"bias", "std", "n"}
    assert set(found["exact"]) >= {"max_relative_error", "speedup_over_pot"}
    assert found["exact"]["max_relative_error"] < 1e-9
    for name in names:
        measured = pytest.approx(found["models"][name], rel=1e-4, abs=1e-5)
        assert find_model(name).manifest.metrics == measured, name
    lines = {(line["codec"], line["elinks"]): line for line in found["codecs"]}
    for kind in ("mse", "telescope", "emd", "best"):
        for links in (2, 3, 4, 5):
            assert 0 < lines[f"encoder-{kind}", links]["emd_mean"] < 10
    assert lines["repeater", 11]["emd_mean"] < 0.1
    for name in ("spectra", "links", "dependence", "surrogates"):
        assert (plots / f"{name}.png").stat().st_size > 10_000


def test_without_torch_training_says_how_to_get_it(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import typer; from sluice.exporters.cli import register\n"
        "app = typer.Typer(); register(app)\n"
        "app(['train', 'wafers'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "sluice-daq[train]" in done.stderr


def test_registering_imports_nothing_heavy():
    code = (
        "import sys; from sluice.exporters.cli import register\n"
        "print(*{'torch', 'numba', 'onnxruntime', 'numpy', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "", done.stderr
