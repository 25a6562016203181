"""What the pages tell a reader to type is typed here."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

Blocks = Callable[[Path, str], list[str]]

#: Where the section on lists begins in the page on one's own files.
_LISTS = "python make_candidates.py"
_FILE = re.compile(r"# (?P<name>[\w.-]+\.(py|toml))\n")
_CODE = re.compile(r"^```\w+\n(.*?)^```$", re.M | re.S)


def _write_files(page: Path, blocks: Blocks, folder: Path) -> None:
    """Write every block whose first line is a file's name."""
    for text in (*blocks(page, "python"), *blocks(page, "toml")):
        if match := _FILE.match(text):
            (folder / match["name"]).write_text(text[match.end() :])


def _register(folder: Path) -> None:
    """Make the entry points of a pyproject known, as an installation would."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def _commands(page: Path, blocks: Blocks) -> list[str]:
    lines = [line for text in blocks(page, "console") for line in text.splitlines()]
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [c for c in commands if not c.startswith("curl") or shutil.which("curl")]


@contextmanager
def _held_port() -> Iterator[str]:
    """Yield a port that nobody else gets: its holder does not listen, so a server may."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield str(holder.getsockname()[1])


def _type(commands: list[str], folder: Path, root: Path, seconds: float = 100) -> str:
    """Run the commands in one shell, with ports of their own; return what they said."""
    with _held_port() as ingest, _held_port() as pages:
        return _run({"5560": ingest, "9464": pages}, commands, folder, root, seconds)


def _run(
    ports: dict[str, str], commands: list[str], folder: Path, root: Path, seconds: float
) -> str:

    def moved(text: str) -> str:
        return re.sub("|".join(ports), lambda match: ports[match[0]], text)

    for graph in folder.glob("*.toml"):
        graph.write_text(moved(graph.read_text()))
    shipped = (root / "pipeline" / "graphs" / "hgcal.toml").read_text()
    (folder / "hgcal.toml").write_text(moved(shipped))
    script = moved("\n".join(commands))
    script = script.replace("sluice run hgcal", "sluice run hgcal.toml")
    script = script.replace(
        "sluice emulate wafers", f"sluice emulate --to tcp://127.0.0.1:{ports['5560']}"
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as shell:  # fmt: skip
        try:
            said, _ = shell.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            said, _ = shell.communicate()
    assert shell.returncode == 0, f"{script}\n{said}"
    return said


def test_readme(root: Path, blocks: Blocks, tmp_path: Path) -> None:
    page = root / "README.md"
    _type(_commands(page, blocks), tmp_path, root)
    report = json.loads((tmp_path / "report.json").read_text())
    (shown,) = (json.loads(text) for text in blocks(page, "json"))
    assert report["closed"]
    assert shown.keys() <= report.keys()
    for key in ("events", "seconds", "latency_s", "compression", "emd"):
        assert shown[key].keys() <= report[key].keys(), key


@pytest.mark.modules("onnx")
def test_tutorial(root: Path, blocks: Blocks, tmp_path: Path) -> None:
    page = root / "docs" / "tutorial.md"
    _write_files(page, blocks, tmp_path)
    said = _type(_commands(page, blocks), tmp_path, root)
    assert "the same decisions" in said
    live = json.loads((tmp_path / "live.json").read_text())
    assert live["closed"]
    assert live["events"]["offered"] == 60_000
    assert live["events"]["lost"] == 0
    mine = json.loads((tmp_path / "mine.json").read_text())
    assert mine["models"]["mean"]["name"] == "mean-charge"
    assert mine["paths"]["warm"] > 0


def test_adding_a_stage(root: Path, blocks: Blocks, tmp_path: Path) -> None:
    page = root / "docs" / "howto" / "add-a-stage.md"
    _write_files(page, blocks, tmp_path)
    _register(tmp_path)
    commands = [f"{sys.executable} -c 'import test_wafer_hits as t; "
                "t.test_counts_cells_above_threshold()'"]  # fmt: skip
    _type(commands + _commands(page, blocks), tmp_path, root)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["closed"]
    assert 0 < report["events"]["accepted"] < report["events"]["offered"]


@pytest.mark.modules("onnx", "onnxruntime")
def test_adding_a_model(
    root: Path, blocks: Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLUICE_MODELS", raising=False)
    page = root / "docs" / "howto" / "add-a-model.md"
    _write_files(page, blocks, tmp_path)
    said = _type(_commands(page, blocks), tmp_path, root)
    stage = (tmp_path / "mine.toml").read_text().partition("[[stage]]\n")[2].partition("\n\n")[0]
    assert f"[[stage]]\n{stage}\n" in said
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["closed"]
    assert report["events"]["offered"] == 1000
    assert 0 < report["paths"]["first"] < 1000
    assert report["models"]["classifier"]["name"] == "classifier"


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.train
@pytest.mark.modules("torch", "onnx", "onnxscript", "onnxruntime")
def test_adding_a_family(root: Path, blocks: Blocks, tmp_path: Path) -> None:
    page = root / "docs" / "howto" / "add-a-family.md"
    _write_files(page, blocks, tmp_path)
    _register(tmp_path)
    said = _type(_commands(page, blocks), tmp_path, root, seconds=380)
    (area,) = re.findall(r'"auc": ([\d.]+)', said)
    assert float(area) > 0.8
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["closed"]
    assert report["events"]["offered"] == 20_000
    assert 0 < report["paths"]["pairs"] < 20_000
    for precision in ("int8", "fp16"):
        manifest = (
            tmp_path / "models" / f"hodoscope-{precision}" / "1" / "manifest.toml"
        ).read_text()
        assert abs(tomllib.loads(manifest)["metrics"]["auc_loss"]) < 0.02


def test_securing_a_run(root: Path, blocks: Blocks, tmp_path: Path) -> None:
    page = root / "docs" / "howto" / "secure-a-run.md"
    _write_files(page, blocks, tmp_path)
    _type(_commands(page, blocks), tmp_path, root)
    report = json.loads((tmp_path / "run.json").read_text())
    assert report["closed"]
    assert report["events"]["offered"] == 20_000
    assert report["refused_connections"] == 0


@pytest.mark.long
def test_run_control(root: Path, blocks: Blocks, tmp_path: Path) -> None:
    said = _type(_commands(root / "docs" / "howto" / "run-control.md", blocks), tmp_path, root)
    for words in ("CONFIGURED", "PAUSED · run 1 · run control", "RUNNING · run 2", "run-2.json"):
        assert words in said, said
    report = json.loads((tmp_path / "run-1.json").read_text())
    assert report["closed"]
    assert report["events"]["offered"] == 40_000
    assert report["seconds"]["paused"] > 0


def test_reading_the_log(root: Path, blocks: Blocks, tmp_path: Path) -> None:
    said = _type(_commands(root / "docs" / "howto" / "read-the-log.md", blocks), tmp_path, root)
    for words in (
        "INFO    ingest: run 1: RUNNING: graph hgcal takes events",
        "INFO    ingest: run 1: front end 'front-end-1-",
        "INFO    ingest: run 1: draining",
        "INFO    ingest: run 1: STOPPED: graph hgcal done: 40,000 events",
    ):
        assert words in said, said


def test_replaying_your_files(root: Path, blocks: Blocks, tmp_path: Path) -> None:
    page = root / "docs" / "howto" / "replay-your-files.md"
    _write_files(page, blocks, tmp_path)
    commands = _commands(page, blocks)
    said = _type(commands[: commands.index(_LISTS)], tmp_path, root)
    assert "every join fits" in said
    assert "latents.arrows: 20,000 events" in said
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["bypassed"] == ["unpack"]
    assert report["events"]["offered"] == 20_000


def test_replaying_lists(root: Path, blocks: Blocks, tmp_path: Path) -> None:
    page = root / "docs" / "howto" / "replay-your-files.md"
    _write_files(page, blocks, tmp_path)
    commands = _commands(page, blocks)
    said = _type(commands[commands.index(_LISTS) :], tmp_path, root)
    report = json.loads((tmp_path / "lists.json").read_text())
    assert report["closed"]
    assert 0 < report["events"]["accepted"] < report["events"]["offered"] == 5000
    assert report["stages"]["sum"]["truncated"] >= 0
    assert f"busy.arrows: {report['events']['accepted']:,} events" in said
    assert "float32[*,3]" in said


def test_make_targets_exist(root: Path) -> None:
    makefile = (root / "Makefile").read_text()
    for page in (root / "README.md", root / "docs" / "tutorial.md", root / "docs" / "gpu.md"):
        for target in re.findall(r"(?:^|`)(?:\$ )?make ([a-z-]+)", page.read_text(), re.M):
            assert re.search(rf"^{target}:", makefile, re.M), target


@pytest.mark.modules("awkward")
def test_running_from_python(root: Path, blocks: Blocks, tmp_path: Path) -> None:
    page = root / "docs" / "howto" / "run-from-python.md"
    _write_files(page, blocks, tmp_path)
    said = _type(_commands(page, blocks), tmp_path, root)
    assert "[{event_id: 0, packed: [" in said
    assert "<Result: " in said
    assert "expected uint32[12], got float64[12]" in said
    assert [path.name for path in tmp_path.glob("*.arrows")] == ["w.arrows"]


#: What the pages may import of Sluice: what its authors keep stable.
_PUBLIC = {"sluice", "sluice.pipeline.api", "sluice.exporters.api"}


def test_pages_import_nothing_but_the_public_modules(root: Path) -> None:
    for page in (root / "README.md", *(root / "docs").rglob("*.md")):
        if "decisions" in page.parts:
            continue
        text = page.read_text()
        found = re.findall(r"(?:from|import) (sluice[\w.]*)", "\n".join(_CODE.findall(text)))
        assert set(found) <= _PUBLIC, page
