"""Each call on an output file fails once, in turn: nothing is lost silently, all can be resumed.

The same with a process that is killed as it makes the call, or between a write and its ACK.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sluice.pipeline.core.errors import DataError
from sluice.pipeline.recording import RecordingReader, find_parts

HERE = Path(__file__).parent
COLUMNS = ["event_id", "packed", "score", "outcome", "decision"]
SINK = {"use": "recording", "keep": "all", "columns": COLUMNS, "fsync": "1 ms"}
EVENTS = 600


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """The library that makes calls fail."""
    built = tmp_path_factory.mktemp("faults") / "faults.so"
    build = ["gcc", "-shared", "-fPIC", "-o", str(built), str(HERE / "file_faults.c"), "-ldl"]
    subprocess.run(build, check=True, timeout=60)
    return built


def contents(files):
    """Return the columns of a recording as bytes, up to its last whole batch."""
    found = {name: [] for name in COLUMNS}
    for file in files:
        try:
            for batch in RecordingReader(file).batches():
                for name in COLUMNS:
                    found[name].append(np.array(batch[name]))
        except DataError:  # it has no header yet
            continue
    return {name: b"".join(part.tobytes() for part in parts) for name, parts in found.items()}


def recording(folder):
    return list(find_parts(folder / "o.arrows").values())


def case(engine, error, stride, *, rotated=False):
    what = error if isinstance(error, str) else errno.errorcode.get(error, "short")
    name = f"{engine}-{what}{'-rotated' * rotated}"
    marks = [pytest.mark.long] if stride == 1 else []
    return pytest.param(engine, error, stride, rotated, id=f"{name}-{stride}", marks=marks)


@pytest.mark.programs("gcc")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("engine", "error", "stride", "rotated"),
    [
        case("inline", errno.EIO, 12),
        *(
            case(engine, error, 1, rotated=rotated)
            for engine in ("inline", "distributed")
            for error in (errno.EIO, errno.ENOSPC, 0, "before", "after")
            for rotated in (False, True)
        ),
    ],
)
def test_every_call_in_turn(
    engine,
    error,
    stride,
    rotated,
    faults,
    make_graph,
    make_recording,
    tmp_path,
    load_report,
    models,
):
    rotation = {"rotate_bytes": 12_000} if rotated else {}
    graph = make_graph(sink=SINK | rotation, graph={"batch_events": 100})
    source = make_recording(tmp_path / "w.arrows", EVENTS, batch=100)
    done = subprocess.run(
        [sys.executable, HERE / "fault_driver.py", tmp_path, source, graph, engine, str(error),
         str(stride)],
        env={**os.environ, "LD_PRELOAD": str(faults), "SLUICE_MODELS": str(models)},
        capture_output=True, text=True, timeout=890, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    truth = contents(recording(tmp_path / str(runs[-1]["number"])))
    assert runs[-1]["code"] == 0
    assert len(np.frombuffer(truth["event_id"], np.uint64)) == EVENTS
    assert len(runs) > (7 if error == "after" else 40) // stride
    for run in runs:
        folder = tmp_path / str(run["number"])
        assert "Traceback" not in run["said"], run
        if run["code"]:
            killed = run["code"] == -signal.SIGKILL and isinstance(error, str)
            assert killed or run["code"] in (2, 5), run
            assert killed or "error: " in run["said"], run
            assert run["again"] == 0, (run, (tmp_path / f"log-{run['number']}").read_text())
            if not rotated:
                committed = contents([folder / "o.first"])
                for name in COLUMNS:
                    assert truth[name].startswith(committed[name]), (run, name)
        assert contents(recording(folder)) == truth, run
        report = load_report(folder / "r.json")
        if engine == "distributed" and error == "after" and not run["code"]:
            assert report["restarts"] == ({"sink": 1} if run["calls"] >= run["number"] else {})
        assert (report["closed"], report["error"]) == (True, None), run
        assert report["events"]["offered"] == EVENTS, run
