"""The check of a machine with a GPU: steps are bounded, none hides another, it tells all."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[3]
_GPU = _ROOT / "benchmarks" / "gpu"


@pytest.fixture(autouse=True)
def module(monkeypatch):
    """Import a module of the check, which is a folder of scripts."""
    monkeypatch.setattr(sys, "path", [str(_GPU), *sys.path])
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if not name.startswith(("numpy", "sluice")):
            del sys.modules[name]


@pytest.fixture
def step(module):
    """Return what makes a step of Python code; `out` in it is where it may write."""
    steps = module("steps")

    def make(name, code, limit_s=30.0, **environment):
        code = "import os, sys, time, subprocess\nout = sys.argv[1]\n" + code
        return steps.Step(name, (sys.executable, "-c", code, "{out}"), limit_s, environment)

    return make


def outcomes(module, *groups, limit_s=60.0):
    printed = []
    report = module("steps").run_all(groups, limit_s, printed.append)
    return report, {outcome["name"]: outcome for outcome in report["steps"]}, printed


def test_no_failure_hides_what_comes_behind_it(module, step):
    report, found, printed = outcomes(
        module,
        [step("good", "open(out, 'w').write('{\"n\": 1}'); print('fine')")],
        [step("bad", "print('alas'); sys.exit(3)")],
        [step("crash", "os.abort()")],
        [step("garbled", "open(out, 'w').write('{')")],
        [module("steps").Step("absent", ("/no/such/command",), 5)],
        [step("last", "open(out, 'w').write(os.environ['MINE'])", MINE="7")],
    )
    assert report["passed"] is False
    assert found["good"]["passed"]
    assert found["good"]["found"] == {"n": 1}
    assert found["bad"]["why"] == "exit code 3"
    assert "alas" in found["bad"]["said"]
    assert found["crash"]["why"] == "ended by SIGABRT"
    assert "cannot be read" in found["garbled"]["why"]
    assert "cannot be started" in found["absent"]["why"]
    assert found["last"]["found"] == 7
    assert any("last: passed" in line for line in printed)


def test_a_step_that_hangs_is_killed_with_its_children_and_keeps_what_it_found(
    module, step, tmp_path
):
    pid = tmp_path / "pid"
    hangs = (
        "child = subprocess.Popen(['sleep', '300'])\n"
        f"open({str(pid)!r}, 'w').write(str(child.pid))\n"
        "open(out, 'w').write('[1, 2]')\n"
        "time.sleep(300)"
    )
    began = time.monotonic()
    report, found, _ = outcomes(module, [step("hangs", hangs, 1.0)], [step("next", "")])
    assert time.monotonic() - began < 20
    assert found["hangs"]["why"] == "not done after 1 s"
    assert found["hangs"]["found"] == [1, 2]
    assert found["next"]["passed"]
    assert not report["passed"]
    stat = Path("/proc") / pid.read_text() / "stat"
    deadline = time.monotonic() + 10
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "the child of a killed step lives"
        time.sleep(0.02)


def test_the_time_of_all_is_bounded(module, step):
    began = time.monotonic()
    report, found, _ = outcomes(
        module, [step("long", "time.sleep(300)", 200)], [step("late", "")], limit_s=1.0
    )
    assert time.monotonic() - began < 20
    assert found["late"]["why"].startswith("not run")
    assert not report["passed"]


def test_steps_of_a_group_run_beside_each_other(module, step, tmp_path):
    """Each waits for the other's file: one after the other they would never end."""
    code = (
        f"folder = {str(tmp_path)!r}\n"
        "open(f'{folder}/{os.environ[\"MINE\"]}', 'w').close()\n"
        "while not os.path.exists(f'{folder}/{os.environ[\"OTHER\"]}'): time.sleep(0.01)"
    )
    report, _, _ = outcomes(
        module, [step("a", code, MINE="a", OTHER="b"), step("b", code, MINE="b", OTHER="a")]
    )
    assert report["passed"]


def outcome(name, seconds, found, why=""):
    return {"name": name, "passed": not why, "why": why, "seconds": seconds, "said": "",
            "found": found}  # fmt: skip


GPU = {"group": "gpu", "name": "gpu 0", "status": "fine", "found": "H100"}
SAME = {"model": "m/1", "passed": True, "why": "", "difference": 1e-7, "allowed": 1e-5,
        "load_s": 2.0}  # fmt: skip
REFUSED = {"model": "n/1", "passed": False, "why": "no | plan\nbuild it", "difference": None,
           "allowed": 1e-5, "load_s": None}  # fmt: skip
HGCAL = {"graph": "hgcal", "backend": "tensorrt", "why": "", "rate_hz": 2e7, "offered_hz": 2e5,
         "latency_s": {"p50": 0.001, "p99": 0.002}}  # fmt: skip
JETS = {"graph": "jets", "backend": "tensorrt", "why": "refused\nhint"}
REPORT = {
    "date": "2026-11-22",
    "passed": False,
    "seconds": 123.4,
    "steps": [
        outcome("doctor", 2.0, {"findings": [GPU]}),
        outcome("tests", 60, None, "exit code 1"),
        outcome("parity tensorrt", 3, {"backend": "tensorrt", "models": [SAME, REFUSED]}, "exit 1"),
        outcome("graphs", 9, {"graphs": [HGCAL, JETS]}),
        outcome("kernels", 60, {"unexpected": 1}, "not done after 60 s"),
    ],
}


def test_tables_tell_what_passed_and_what_did_not(module):
    text = module("summary").markdown(REPORT)
    for words in (
        "2026-11-22: **not every step passed**, 123 s.", "| tests | **exit code 1** | 60 |",
        "| gpu 0 | fine | H100 |", "| m/1 | same | 1e-07 | 1e-05 | 2 |",
        "| n/1 | **no / plan** | | 1e-05 | |", "| hgcal | tensorrt | 20,000,000 | 200,000 |",
        "| jets | tensorrt | **refused** |", "kernels: its table cannot be made",
    ):  # fmt: skip
        assert " ".join(words.split()) in " ".join(text.split()), (words, text)
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_tables_take_the_place_of_those_before(module, tmp_path):
    run = module("run")
    page = tmp_path / "gpu.md"
    page.write_text("# GPUs\n\nText.\n")
    for seconds in (1.0, 2.0):
        run.write({**REPORT, "seconds": seconds}, tmp_path / "out" / "r.json", page)
    text = page.read_text()
    assert text.startswith("# GPUs\n\nText.\n")
    assert text.count("not every step passed") == 1
    assert ", 2 s." in text
    assert json.loads((tmp_path / "out" / "r.json").read_text())["seconds"] == 2.0
    assert (tmp_path / "out" / "r.md").read_text() in text


def test_exit_codes(module, monkeypatch, tmp_path, step):
    run = module("run")
    monkeypatch.setattr(run.probe, "main", lambda: 0)
    for code, expected in (("", 0), ("sys.exit(1)", 1)):
        monkeypatch.setattr(run, "groups", lambda _, code=code: [[step("one", code)]])
        assert run.main(["--json", str(tmp_path / "r.json")]) == expected
    monkeypatch.setattr(run.probe, "main", lambda: 8)
    monkeypatch.setattr(run, "groups", lambda _: pytest.fail("steps without a GPU"))
    assert run.main([]) == 8


def test_without_a_driver_it_ends_at_once(module, monkeypatch, capsys):
    probe = module("probe")
    monkeypatch.setattr(probe, "LIBRARY", "libno-such-driver.so.1")
    assert probe.main() == 8
    assert "no NVIDIA driver" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("initialised", "devices", "expected"), [(0, 1, 0), (100, 0, 8), (0, 0, 8)]
)
def test_a_driver_with_and_without_gpus(module, monkeypatch, initialised, devices, expected):
    class Driver:
        @staticmethod
        def cuInit(flags):
            return initialised

        @staticmethod
        def cuDeviceGetCount(count):
            count._obj.value = devices
            return 0

    probe = module("probe")
    monkeypatch.setattr(probe.ctypes, "CDLL", lambda _: Driver)
    assert probe.main() == expected


def test_the_steps_are_what_is_there(module):
    """Scripts exist, options are known, and together they fit into eight minutes."""
    run = module("run")
    groups = run.groups(sys.executable)
    names = [step.name for group in groups for step in group]
    assert names[:2] == ["doctor", "tests"]
    assert sum(max(step.limit_s for step in group) for group in groups) <= 500
    assert run._LIMIT_S < 480
    for group in groups:
        for one in group:
            for word in one.command:
                if word.endswith(".py"):
                    assert Path(word).is_file(), word


def test_every_graph_that_ships_is_measured(module):
    graphs = module("graphs")
    shipped = {path.stem for path in (_ROOT / "pipeline" / "graphs").glob("*.toml")}
    assert {graph.graph.name for graph in graphs.family_graphs()} | set(graphs._FOR_GPUS) == shipped


def test_a_graph_is_measured_and_a_refused_one_is_reported(module, monkeypatch):
    graphs = module("graphs")
    monkeypatch.setattr(graphs, "_SECONDS", 0.05)
    monkeypatch.setattr(graphs, "_DISTINCT", 256)
    shipped = {graph.graph.name: graph for graph in graphs.family_graphs()}
    found = graphs.measure(shipped["compress"], graphs.AS_IT_SHIPS)
    assert found["why"] == ""
    assert found["rate_hz"] > 0
    assert 0 < found["offered_hz"] <= graphs._MAX_RATE_HZ
    assert 0 < found["latency_s"]["p50"] <= found["latency_s"]["p99"]
    assert "layers" in graphs.measure(shipped["antihydrogen"], "layers")["why"]


def test_parity_on_a_backend_that_is_here(tmp_path):
    done = subprocess.run(
        [sys.executable, str(_GPU / "parity.py"), "--backend", "onnxruntime:cpu",
         "--json", str(tmp_path / "p.json"), "--models", "wafer-tagger", "jet-tagger-disco-int8"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    models = json.loads((tmp_path / "p.json").read_text())["models"]
    assert [one["model"] for one in models] == ["jet-tagger-disco-int8/1", "wafer-tagger/1"]
    assert all(one["difference"] == 0 for one in models)


def test_parity_on_a_backend_that_is_not(tmp_path):
    done = subprocess.run(
        [sys.executable, str(_GPU / "parity.py"), "--backend", "layers",
         "--json", str(tmp_path / "p.json"), "--models", "wafer-tagger", "jet-tagger-disco"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    jets, wafers = json.loads((tmp_path / "p.json").read_text())["models"]
    assert wafers["passed"]
    assert not jets["passed"]
    assert "layers" in jets["why"]
