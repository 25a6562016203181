"""A run recorded in files, its model swapped, its sink and then its engine killed, and resumed."""

from __future__ import annotations

import json
import shutil
import signal
import tomllib

import numpy as np
import pytest
import tomli_w

from sluice.pipeline.journal.recorded_run import RecordedRun
from sluice.pipeline.recording import Recording
from sluice.pipeline.sinks.recording import RecordingSink

COLUMNS = ["event_id", "packed", "score", "decision", "batch_seq", "epoch"]
SINK = {
    "use": "recording", "keep": "all", "columns": COLUMNS, "rotate_bytes": 60_000, "fsync": "50 ms",
}  # fmt: skip
MINE = "my-tagger"


def columns_of(path):
    """Return event ids, epochs, batch numbers and scores of a recording that must be whole."""
    recording = Recording(path)
    batches = list(recording.batches())
    recording.close()
    assert recording.corruption is None
    names = ("event_id", "epoch", "batch_seq", "score")
    return {name: np.concatenate([batch[name] for batch in batches]) for name in names}


@pytest.fixture
def graph(make_graph):
    """Small batches that take 10 ms each, in a graph that is the same in each attempt."""
    delay = {"use": "test.delay", "name": "slow", "seconds": 0.01}
    return make_graph("slow", first=[delay], sink=SINK, graph={"batch_events": 100})


@pytest.fixture
def calm(make_graph):
    """The same graph without the wait, with the other tagger from the start."""
    path = make_graph("calm", sink={**SINK, "rotate_bytes": 0}, graph={"batch_events": 100})
    tables = tomllib.loads(path.read_text())
    next(stage for stage in tables["stage"] if stage.get("name") == "tag")["model"] = MINE
    path.write_text(tomli_w.dumps(tables))
    return path


@pytest.fixture
def mine(models, tmp_path):
    """Environment in which there is a model of my own beside those that ship."""
    folder = tmp_path / "models" / MINE
    shutil.copytree(models / "wafer-tagger-half", folder)
    path = folder / "1" / "manifest.toml"
    path.write_text(tomli_w.dumps({**tomllib.loads(path.read_text()), "name": MINE}))
    return {"SLUICE_MODELS": str(folder.parent)}


@pytest.fixture
def kill_engine(remove_run_folders):
    def kill(command):
        command.children()
        command.signal(signal.SIGKILL)
        command.finish()
        remove_run_folders()

    return kill


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["distributed", "inline"])
def test_swapped_killed_and_resumed(
    engine, launch, sluice, http, kill_engine, graph, calm, wafers, mine, tmp_path, load_report
):
    out, report, address = tmp_path / "o.arrows", tmp_path / "r.json", f"127.0.0.1:{http.port}"
    arguments = ["replay", wafers, "--graph", graph, "--engine", engine, "--out", out]
    command = launch(*arguments, "--http", address, env=mine)
    http.settled(command, 2_000)
    swapped = sluice("ctl", "swap", "tag", MINE, "--address", address)
    assert swapped.code == 0, swapped
    begun = json.loads(http.get("/status")[1])["report"]["swaps"]
    if engine == "distributed":
        (sink,) = command.workers("sink")
        sink.send_signal(signal.SIGKILL)
    http.settled(command, (begun[0]["first_event"] or 2_000) + 2_000)
    kill_engine(command)
    gone = sluice(*arguments, "--resume")
    assert gone.code == 4, gone
    assert f"it went on with other models than it began with ('tag': {MINE}/1)" in gone.err
    done = sluice(*arguments, "--resume", "--report", report, timeout=120, env=mine)
    assert done.code == 0, done
    result = load_report(report)
    assert result["closed"]
    assert result["resumed"]["events"] >= 4_000
    assert result["events"]["offered"] == 20_000
    assert result["events"]["failed"] == result["events"]["lost"] == 0
    assert result["models"]["tag"]["name"] == MINE
    (swap,) = result["swaps"]
    assert (swap["epoch"], swap["stage"], swap["from"]["name"]) == (1, "tag", "wafer-tagger")
    parts = [out, *sorted(tmp_path.glob("o-*.arrows"))]
    assert len(parts) == result["output"]["files"] > 5
    assert result["output"]["path"] == str(parts[0])
    assert result["output"]["events"] == 20_000
    assert result["output"]["bytes"] == sum(part.stat().st_size for part in parts)
    rows = columns_of(out)
    assert rows["event_id"].tolist() == list(range(1, 20_001))
    first = int(np.flatnonzero(rows["epoch"] == 1)[0])
    assert (rows["epoch"] == (np.arange(20_000) >= first)).all()
    assert (rows["batch_seq"][first], rows["event_id"][first]) == (swap["seq"], swap["first_event"])
    inspected = sluice("inspect", out, "--json")
    assert inspected.code == 0, inspected
    facts = json.loads(inspected.out)
    assert facts["events"] == sum(file["events"] for file in facts["files"]) == 20_000
    assert facts["eor"]["swaps"] == result["swaps"]
    quiet = sluice("replay", wafers, "--graph", calm, "--engine", "inline", "--out",
                   tmp_path / "quiet.arrows", env=mine)  # fmt: skip
    assert quiet.code == 0, quiet
    other = columns_of(tmp_path / "quiet.arrows")["score"]
    assert rows["score"][first:].tobytes() == other[first:].tobytes()
    assert rows["score"][:first].tobytes() != other[:first].tobytes()


def test_rotated_files_hold_what_one_file_holds(sluice, make_graph, wafers, tmp_path):
    """The first has the name of the recording and stands for all, also for a replay of it."""
    assert RecordingSink.Options(columns=()).rotate_bytes == 4 << 30  # not only if asked for
    runs = {}
    for name, size in (("one", 0), ("many", 60_000)):
        graph = make_graph(name, sink={**SINK, "rotate_bytes": size}, graph={"batch_events": 500})
        runs[name] = tmp_path / f"{name}.arrows"
        arguments = ("--graph", graph, "--engine", "inline", "--out", runs[name])
        done = sluice("replay", wafers, *arguments)
        assert done.code == 0, done
    files = sorted(file.name for file in tmp_path.glob("*.arrows"))
    assert files == [
        *(f"many-{n:04d}.arrows" for n in range(2, len(files))),
        "many.arrows",
        "one.arrows",
    ]
    assert len(files) > 5
    one, many = (list(RecordedRun(path).batches()) for path in runs.values())
    assert len(one) == len(many) == 40
    for (record, events), (other_record, other_events) in zip(one, many, strict=True):
        assert [record[name] for name in ("seq", "events")] == [
            other_record[name] for name in ("seq", "events")
        ]
        for column in COLUMNS:
            assert events[column].tobytes() == other_events[column].tobytes(), column
    compared = sluice("replay", wafers, "--graph", graph, "--same-batches", runs["many"], "--json")
    assert compared.code == 0, compared
    comparison = json.loads(compared.out)["output"]["comparison"]
    assert (comparison["events"], comparison["same"]) == (20_000, True)


@pytest.mark.long
def test_files_are_replayed_as_one_recording_and_not_written_over(
    sluice, make_graph, wafers, tmp_path, load_report
):
    words = {**SINK, "columns": ["event_id", "words"]}
    split = make_graph("split", sink=words, graph={"batch_events": 500})
    folder = tmp_path / "parts"
    folder.mkdir()
    done = sluice("replay", wafers, "--graph", split, "--out", folder / "w.arrows")
    assert done.code == 0, done
    assert len(list(folder.glob("w-*.arrows"))) > 5
    report = tmp_path / "r.json"
    for name in (folder, folder / "w.arrows", folder / "w*.arrows"):
        again = sluice("replay", name, "--graph", "hgcal", "--engine", "inline", "--report", report)
        assert again.code == 0, again
        assert load_report(report)["events"]["offered"] == 20_000
    over = sluice("replay", folder, "--graph", split, "--out", folder / "w.arrows")
    assert over.code == 2, over
    assert "expected a file of its own" in over.err
    (folder / "w-0003.arrows").rename(tmp_path / "elsewhere.arrows")
    short = sluice("replay", folder, "--graph", "hgcal", "--engine", "inline")
    assert short.code == 3, short
    assert "expected w-0003.arrows after w-0002.arrows, got w-0004.arrows" in short.err
    part = sluice("inspect", folder / "w-0002.arrows")
    assert part.code == 0, part
