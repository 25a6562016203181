"""A full disk: the run pauses, goes on by itself when there is space, else ends in ERROR.

Whatever happens, the ledger closes and what was acknowledged can be read.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest

#: Starts a command that may write no file larger than so many bytes.
LIMIT = """
import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
os.execv(sys.argv[2], sys.argv[2:])
"""
SINK = {
    "use": "recording", "keep": "all", "columns": ["event_id", "packed", "score"],
    "full_timeout": "1 s",
}  # fmt: skip


@pytest.fixture
def graph(make_graph):
    return make_graph(sink=SINK, graph={"batch_events": 500})


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    subprocess.run(mount, capture_output=True, check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def check(done, report, out, offered):
    assert done.code == 5, done
    assert "sink" in done.err
    assert "cannot write" in done.err
    counts = report["events"]
    assert report["state"] == "ERROR"
    assert "sink" in report["error"]
    assert counts["failed"] > 0
    assert counts["lost"] == counts["shed"] == counts["invalid"] == 0
    read = ids_of(out)
    decided = counts["offered"] - counts["failed"]
    assert 0 < counts["offered"] <= offered
    # All that was acknowledged can be read, in order, from the first event on.
    assert len(read) >= decided > 0
    assert read == list(range(1, len(read) + 1))


def ids_of(path):
    ids = []
    with pa.OSFile(str(path)) as file:
        stream = pa.ipc.open_stream(file)
        while True:
            try:
                ids += stream.read_next_batch()["event_id"].to_pylist()
            except (StopIteration, OSError, pa.ArrowException):
                return ids


@pytest.mark.mounts
@pytest.mark.parametrize("engine", ["inline", "distributed"])
def test_full_disk(engine, sluice, graph, small_disk, wafers, tmp_path, load_report):
    out, report = small_disk / "o.arrows", tmp_path / "r.json"
    done = sluice(
        "replay", wafers, "--graph", graph, "--engine", engine, "--out", out, "--report", report
    )
    assert "No space left" in done.err
    check(done, load_report(report), out, 20_000)


@pytest.mark.mounts
@pytest.mark.parametrize("engine", [pytest.param("inline", marks=pytest.mark.long), "distributed"])
def test_a_full_disk_pauses_the_run_until_there_is_space(
    engine, launch, http, make_graph, small_disk, wafers, tmp_path, load_report
):
    sink = SINK | {"full_timeout": "2 min"}
    graph = make_graph(sink=sink, graph={"batch_events": 500}, workers={"stall_timeout": "1 s"})
    out, report = small_disk / "o.arrows", tmp_path / "r.json"
    command = launch(
        "replay", wafers, "--graph", graph, "--engine", engine, "--out", out, "--report", report,
        "--http", f"127.0.0.1:{http.port}",
    )  # fmt: skip
    http.until("/status", lambda _, text: '"state":"PAUSED"' in text, command, 90)
    metrics = http.until("/metrics", lambda _, text: "sluice_run_paused 1.0" in text, command)
    assert 'sluice_alarm{cause="sink"} 1.0' in metrics
    status = json.loads(http.until("/status", lambda code, _: code == 200, command))
    assert "No space left" in status["holds"]["sink"]
    time.sleep(1.5)  # longer than the stall timeout: to wait for disk space is no stall
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    done = command.finish()
    assert done.code == 0, done
    result = load_report(report)
    assert result["events"]["offered"] == 20_000
    assert result["events"]["failed"] == 0
    assert result["seconds"]["paused"] > 1
    assert ids_of(out) == list(range(1, 20_001))


@pytest.mark.mounts
def test_a_second_stop_ends_a_run_that_waits_for_disk_space(
    launch, http, make_graph, small_disk, wafers, tmp_path, load_report
):
    sink = SINK | {"full_timeout": "10 min"}
    graph = make_graph(sink=sink, graph={"batch_events": 500})
    out, report = small_disk / "o.arrows", tmp_path / "r.json"
    command = launch(
        "replay", wafers, "--graph", graph, "--out", out, "--report", report,
        "--http", f"127.0.0.1:{http.port}",
    )  # fmt: skip
    http.until("/status", lambda _, text: '"state":"PAUSED"' in text, command, 90)
    command.signal(signal.SIGTERM)
    http.until("/status", lambda _, text: '"stopping":true' in text, command)
    command.signal(signal.SIGTERM)
    done = command.finish(30)
    assert done.code == 5, done
    assert "stopped a second time" in done.err
    result = load_report(report)
    assert result["events"]["failed"] > 0
    read = ids_of(out)
    assert read == list(range(1, len(read) + 1))


def test_file_size_limit(launch, graph, wafers, tmp_path, load_report):
    """As with a quota: the write fails with EFBIG."""
    out, report = tmp_path / "o.arrows", tmp_path / "r.json"
    launcher = tmp_path / "limited"
    launcher.write_text(f"#!{sys.executable}\n{LIMIT}")
    launcher.chmod(0o755)
    arguments = [
        "replay", wafers, "--graph", graph, "--engine", "inline", "--out", out, "--report", report
    ]  # fmt: skip
    command = launch(*arguments, through=[launcher, 200_000])
    done = command.finish()
    assert "File too large" in done.err
    check(done, load_report(report), out, 20_000)


def test_no_disk_space_from_the_first_byte(sluice, graph, wafers, tmp_path, load_report):
    report = tmp_path / "r.json"
    done = sluice(
        "replay", wafers, "--graph", graph, "--out", "/dev/full", "--report", report
    )  # fmt: skip
    assert done.code == 5, done
    assert "sink" in done.err
    assert "No space left" in done.err
    assert "No space left" in load_report(report)["error"]


def test_full_disk_of_the_quarantine_does_not_stop_the_run(sluice, tmp_path, load_report):
    header = ",".join(f"RX_DATA_{i}" for i in range(12))
    good = ",".join(["a1234567"] * 12)
    path, report = tmp_path / "w.csv", tmp_path / "r.json"
    path.write_text("\n".join([header, good, "bad", good]) + "\n")
    done = sluice(
        "replay", path, "--graph", "hgcal", "--engine", "inline", "--quarantine", "/dev/full",
        "--report", report,
    )  # fmt: skip
    assert done.code == 0, done
    result = load_report(report)
    assert result["events"]["invalid"] == 1
    assert "No space left" in result["quarantine"]["error"]
