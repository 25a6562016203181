"""Outputs replace nothing that Sluice did not write, and nothing unasked; a refusal leaves all."""

from __future__ import annotations

import json
import os
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from sluice.pipeline.cli.main import app
from sluice.pipeline.core.errors import SluiceError
from sluice.pipeline.recording import RecordingReader

NAMES = ["--out", "--report", "--quarantine"]


@pytest.fixture
def folder(tmp_path, monkeypatch, wafers):
    """A folder with an input, a graph with a component beside it, a key, and notes."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("SLUICE_STATE", str(tmp_path / "state"))
    shutil.copy(wafers, "w.arrows")
    Path("mine.py").write_text(
        "from sluice.pipeline.api import EVENT_ID, Column, Schema, stage\n\n\n"
        '@stage(consumes=Schema([EVENT_ID]), provides=Schema([Column("twice", "uint64")]))\n'
        "def double(event_id):\n    return event_id * 2\n"
    )
    graph = (files("sluice.pipeline") / "graphs" / "compress.toml").read_text()
    Path("g.toml").write_text(graph)
    Path("notes.txt").write_text("mine")
    return here


def contents(folder):
    """Return content, or kind, of each file in a folder but what Python compiles."""
    return {
        path.name: path.read_bytes() if path.is_file() else path.lstat().st_mode
        for path in folder.iterdir()
        if path.name != "__pycache__"
    }


def refusal(*options):
    command = ["replay", "w.arrows", "--graph", "g.toml", "--engine", "inline", *options]
    with pytest.raises(SluiceError) as refused:
        app([str(word) for word in command], standalone_mode=False)
    return str(refused.value), refused.value.exit_code


def check_refused(folder, options, words):
    before = contents(folder)
    text, code = refusal(*options)
    assert words in text, text
    assert code == 2
    assert contents(folder) == before
    assert not (folder.parent / "state").exists()


@pytest.mark.parametrize("option", NAMES)
@pytest.mark.parametrize("force", [[], ["--force"]], ids=["", "force"])
@pytest.mark.parametrize("made", ["input", "hard link", "symbolic link", "graph", "model"])
def test_what_the_run_reads_is_no_output(folder, option, force, made, monkeypatch):
    target = "other.arrows"
    if made == "hard link":
        os.link("w.arrows", target)
    elif made == "symbolic link":
        os.symlink("w.arrows", target)
    elif made == "model":
        repository = folder.parent / "models"
        shutil.copytree(str(files("sluice.models")), repository)
        monkeypatch.setenv("SLUICE_MODELS", str(repository))
        target = str(next(repository.glob("wafer-encoder-9b/1/*.onnx")))
    else:
        target = {"input": "w.arrows", "graph": "g.toml"}[made]
    check_refused(folder, [option, target, *force], "which the run reads")


@pytest.mark.parametrize("option", NAMES)
@pytest.mark.parametrize("made", ["notes", "dangling", "FIFO", "folder", "input of another run"])
def test_what_sluice_did_not_write_there_is_no_output(folder, option, made, wafers):
    if made == "dangling":
        os.symlink("nowhere", "o")
    elif made == "FIFO":
        os.mkfifo("o")
    elif made == "folder":
        os.mkdir("o")
    elif made == "notes":
        shutil.copy("notes.txt", "o")
    else:
        Path("o").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    words = "expected a file to write" if made in ("dangling", "FIFO", "folder") else "o: e"
    check_refused(folder, [option, "o", "--force"], words)
    check_refused(folder, [option, "o"], words)


@pytest.mark.parametrize(
    ("one", "other"),
    [("--out", "--report"), ("--out", "--quarantine"), ("--report", "--quarantine")],
)
def test_two_outputs_are_two_files(folder, one, other):
    os.symlink(".", "same")
    for path in ("o", "./o", "same/o", str(folder / "o")):
        check_refused(folder, [one, "o", other, path], "expected a file of its own")


@pytest.mark.parametrize("option", NAMES)
def test_a_name_that_is_no_text_is_refused(folder, option):
    check_refused(folder, [option, "o\udcff"], "expected a name that is UTF-8")


def test_components_keys_and_references_are_inputs(folder):
    graph = Path("g.toml").read_text()
    Path("reference.json").write_text("{}")
    Path("g.toml").write_text(
        graph.replace("[sink]", '[[stage]]\nuse = "mine.py:double"\nname = "double"\n\n[sink]')
    )
    check_refused(folder, ["--report", "mine.py", "--force"], "which the run reads")


def test_an_output_may_have_the_name_of_a_component(folder):
    words = ["--engine", "inline", "--out", "recording", "--report", "wafer.normalise"]
    app(["replay", "w.arrows", "--graph", "g.toml", *words], standalone_mode=False)
    assert json.loads(Path("wafer.normalise").read_text())["output"]["path"] == "recording"


def test_an_earlier_run_is_replaced_only_when_asked(folder):
    run = ["replay", "w.arrows", "--graph", "g.toml", "--engine", "inline", "--out", "o.arrows",
           "--report", "r.json"]  # fmt: skip
    app(run, standalone_mode=False)
    os.link("o.arrows", "kept.arrows")
    first = contents(folder)
    check_text, code = refusal("--out", "o.arrows", "--report", "new.json")
    assert (code, "add --force" in check_text) == (2, True)
    assert contents(folder) == first
    app([*run, "--force"], standalone_mode=False)
    again = contents(folder)
    assert json.loads(first["r.json"])["run"] == 1
    assert json.loads(again["r.json"])["run"] == 2
    assert again["kept.arrows"] == first["o.arrows"]
    ids = [
        np.concatenate([batch["event_id"] for batch in RecordingReader(Path(name)).batches()])
        for name in ("o.arrows", "kept.arrows")
    ]
    np.testing.assert_array_equal(*ids)
    assert len(ids[0])
    # What one kind of output is may not be replaced by another.
    text, _ = refusal("--out", "r.json", "--force")
    assert "r.json: expected a recording to replace" in text
    assert contents(folder) == again


@pytest.mark.parametrize("pattern", ["w*.arrows", "deep/**/w*.arrows", "deep/*/*/w.arrow[s]"])
def test_what_a_pattern_of_the_source_matches_is_no_output(folder, pattern):
    """A pattern stands for the files that the source would read, folders below included."""
    below = Path("deep/below/this")
    below.mkdir(parents=True)
    shutil.copy("w.arrows", below / "w.arrows")
    target = Path("w.arrows") if pattern == "w*.arrows" else below / "w.arrows"
    content = target.read_bytes()
    for force in ([], ["--force"]):
        with pytest.raises(SluiceError, match="which the run reads") as refused:
            app(["replay", pattern, "--graph", "g.toml", "--out", str(target), *force],
                standalone_mode=False)  # fmt: skip
        assert refused.value.exit_code == 2
    assert target.read_bytes() == content
