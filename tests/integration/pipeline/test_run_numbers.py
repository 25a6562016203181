"""Run numbers as the command line gives and refuses them, and as several processes get them."""

from __future__ import annotations

import json
import subprocess
import sys


def test_runs_are_numbered_and_a_number_is_refused_the_second_time(
    sluice, make_graph, wafers, tmp_path
):
    graph = make_graph(run={"state": str(tmp_path / "state")}, sink={"use": "null"})
    command = ("replay", wafers, "--graph", graph, "--engine", "inline")
    for number in (1, 2):
        done = sluice(*command, "--report", tmp_path / "r-{run}.json")
        assert done.code == 0, done
        assert json.loads((tmp_path / f"r-{number}.json").read_text())["run"] == number
    refused = sluice(*command, "--run", 2, "--report", tmp_path / "again.json")
    assert refused.code == 2, refused
    assert "run 2" in refused.err
    assert "never used" in refused.err
    assert not (tmp_path / "again.json").exists()
    trial = sluice(*command, "--run", 0, "--json")
    assert json.loads(trial.out)["run"] == 0
    assert json.loads((tmp_path / "state" / "runs.json").read_text())["given"] == [[1, 2]]


def test_a_graph_that_is_refused_uses_up_no_number(sluice, make_graph, wafers, tmp_path):
    state = tmp_path / "state"
    graph = make_graph(
        run={"state": str(state)}, sink={"use": "recording", "columns": ["no_such_column"]}
    )
    done = sluice("replay", wafers, "--graph", graph, "--run", 5)
    assert done.code == 2, done
    assert not state.exists()


def test_processes_at_the_same_time_get_numbers_of_their_own(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from sluice.pipeline.run.run_numbers import RunNumbers\n"
        "print(*[RunNumbers(Path(sys.argv[1])).allocate() for _ in range(25)])"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert sorted(int(n) for text in said for n in text.split()) == list(range(1, 101))
