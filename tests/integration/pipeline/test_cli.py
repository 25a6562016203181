"""Every command has a help page with an example; what commands print is right."""

from __future__ import annotations

import json
import re
import subprocess
import sys

#: What takes long to import, and only some commands need.
HEAVY = ("http.client", "numpy", "pyarrow", "rich", "ssl", "urllib.request", "zmq")
ONLINE = ["run", "replay", "emulate", "check", "inspect", "models", "bench pipeline", "bench emd",
          "bench families"]  # fmt: skip


def test_help_lists_every_command(sluice):
    done = sluice("--help")
    assert done.code == 0
    for name in ("run", "replay", "emulate", "simulate", "check", "inspect", "models", "bench"):
        assert re.search(rf"\b{name}\b", done.out), name
    assert "Exit codes" in done.out
    assert sluice().code == 2
    assert re.fullmatch(r"sluice \d+\.\d+.*\n", sluice("--version").out)


def test_commands_import_what_they_need_when_they_run():
    script = "import sys, sluice.pipeline.cli.main; print(*set(sys.argv[1:]) & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", script, *HEAVY], capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == []


def test_help_shows_an_example(together):
    commands = [*ONLINE, "simulate", "train", "export"]
    done = together(*((*command.split(), "--help") for command in commands))
    for command, one in zip(commands, done, strict=True):
        assert one.code == 0, one
        assert "Usage" in one.out
        assert f"Example: sluice {command}" in one.out


def test_unknown_command_and_option(together):
    for one in together(["replays"], ["replay"], ["check", "hgcal", "--fast"]):
        assert one.code == 2, one
        assert "error:" in one.err


def test_check(together, wafers, data_dir):
    plain, words, charges = together(
        ("check", "hgcal"),
        ("check", "hgcal", "--for", wafers),
        ("check", "hgcal", "--for", data_dir / "calq" / "CALQ_output.csv"),
    )
    assert plain.code == words.code == charges.code == 0, (plain, words, charges)
    for stage in ("unpack", "normalise", "encode", "pack", "tag", "menu"):
        assert stage in plain.out
    assert "bypassed" not in plain.out + words.out
    assert "bypassed" in charges.out


def test_inspect(sluice, wafers):
    done = sluice("inspect", wafers, "--json")
    assert done.code == 0, done
    facts = json.loads(done.out)
    assert facts["events"] == 20_000
    assert facts["batches"] == 20
    assert facts["whole"] is True
    assert [column["name"] for column in facts["columns"]] == ["event_id", "t_event", "words"]
    shown = sluice("inspect", wafers)
    assert shown.code == 0
    assert "20,000 events" in shown.out
    assert "uint32[12]" in shown.out


def test_models(sluice):
    done = sluice("models", "--json")
    assert done.code == 0, done
    cards = {card["name"]: card for card in json.loads(done.out)}
    assert {"wafer-encoder-9b", "wafer-decoder-9b", "wafer-emd", "wafer-tagger"} <= set(cards)
    assert all(len(card["sha256"]) == 64 for card in cards.values())
    assert sluice("models").code == 0


def test_simulate_is_reproducible(together, tmp_path, assert_same_recording):
    simulate = ("simulate", "wafers", "--events", 500, "--seed", 9, "--out")
    for one in together((*simulate, "a.arrows"), (*simulate, "b.arrows")):
        assert one.code == 0, one
    assert assert_same_recording(tmp_path / "a.arrows", tmp_path / "b.arrows") == 500


def test_report_and_default_output_are_where_they_should_be(sluice, wafers, tmp_path):
    done = sluice(
        *("replay", wafers, "--graph", "hgcal", "--engine", "inline", "--report", "d/r.json"),
        "--json",
    )
    assert done.code == 0, done
    assert (tmp_path / "wafers.accepted.arrows").is_file()
    report = json.loads((tmp_path / "d" / "r.json").read_text())
    assert json.loads(done.out) == report  # nothing else is printed
    assert done.err == ""
    for key in ("graph", "run", "events", "closed", "seconds", "rate_hz", "latency_s", "stages",
                "models", "compression", "emd"):  # fmt: skip
        assert key in report, key
    assert set(report["events"]) == {"offered", "accepted", "rejected", "prescaled", "shed",
                                     "invalid", "failed", "lost"}  # fmt: skip
    assert set(report["seconds"]) == {"wall", "live", "paused", "busy", "down"}
    assert {"p50", "p99", "p999", "max"} <= set(report["latency_s"])
    for stage in report["stages"].values():
        assert {"events", "batches", "service_s", "wait_s"} <= set(stage)
    for model in report["models"].values():
        assert {"name", "version", "sha256", "backend"} <= set(model)


def test_a_backend_that_is_not_here_is_refused_at_once(together, wafers):
    replay = ("replay", wafers, "--graph", "hgcal", "--backend")
    cuda, unknown, cpu = together(
        ("run", "hgcal", "--backend", "onnxruntime:tensorrt:63"), (*replay, "nonesuch"),
        (*replay, "onnxruntime:cpu", "--engine", "inline", "--json"),
    )  # fmt: skip
    assert cuda.code == 4, cuda
    assert "onnxruntime:tensorrt:63" in cuda.err
    assert "pip" in cuda.err
    assert "Traceback" not in cuda.err + unknown.err
    assert unknown.code == 2, unknown
    assert "no backend is called 'nonesuch'" in unknown.err
    assert cpu.code == 0, cpu
    models = json.loads(cpu.out)["models"]
    assert {model["backend"] for model in models.values()} == {"onnxruntime:cpu"}


def test_a_function_call_runs_a_graph_over_processes(wafers, tmp_path):
    script = (
        "import sluice\n"
        f"one = sluice.run('compress', {str(wafers)!r})\n"
        f"other = sluice.run('compress', {str(wafers)!r}, engine='distributed', workers=2)\n"
        "assert one.events and one.to_arrow().equals(other.to_arrow())\n"
        "assert other.report['closed']\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, timeout=100, check=True)
    assert list(tmp_path.iterdir()) == []
