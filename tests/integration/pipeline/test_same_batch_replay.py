"""A replay in the batches of a recorded run finds what is decided otherwise, and nothing else."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

from sluice.pipeline.journal.recorded_run import RecordedRun

COLUMNS = ["event_id", "outcome", "decision", "score"]
DIFFERENT = 7


def read(path):
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_stream(file).read_all().replace_schema_metadata(None)


@pytest.fixture
def record(sluice, wafers, tmp_path):
    """Run the wafers as a detector would send them; return the recording."""

    def run(graph, *, name="run", source=wafers):
        out = tmp_path / f"{name}.arrows"
        done = sluice(
            "replay", source, "--graph", graph, "--workers", 2, "--rate", 20_000, "--out", out
        )
        assert done.code == 0, done
        return out

    return run


@pytest.fixture
def again(sluice, wafers):
    """Replay in the batches of a run; return the exit code, the comparison and what was said."""

    def run(graph, recorded, *more, source=wafers, engine="inline"):
        done = sluice(
            "replay", source, "--graph", graph, "--same-batches", recorded, "--json",
            "--engine", engine, *more,
        )  # fmt: skip
        report = json.loads(done.out) if done.out.strip() else {}
        return done.code, report.get("output", {}).get("comparison"), done

    return run


@pytest.fixture
def graph(make_graph):
    def make(name="test", *, threshold=0.9, keep="accepted", columns=COLUMNS, **tables):
        sink = {"use": "recording", "keep": keep, "columns": columns}
        path = make_graph(name, sink=sink, **tables)
        text = path.read_text()
        assert text.count("score.electromagnetic > 0.9") == 1
        path.write_text(
            text.replace("score.electromagnetic > 0.9", f"score.electromagnetic > {threshold}")
        )
        return path

    return make


@pytest.fixture
def recorded(graph, record, once):
    """The recording of a run with the graph as it is; the first test that asks makes it for all."""
    return once("recorded", lambda at: shutil.copy(record(graph()), at / "run")) / "run"


@pytest.mark.parametrize("keep", ["accepted", pytest.param("all", marks=pytest.mark.long)])
def test_the_same_graph_decides_the_same(graph, record, recorded, again, keep):
    path = graph(keep=keep)
    recorded = record(path) if keep == "all" else recorded
    records = RecordedRun(recorded).batch_records()
    assert records["events"].sum() == 20_000
    assert len(set(records["events"].tolist())) > 1  # as a detector would make them
    for engine in ("inline", "distributed"):
        code, found, done = again(path, recorded, "--compare", "score", engine=engine)
        assert code == 0, done
        assert found["same"]
        assert found["events"] == 20_000
        assert found["batches"] == (records["events"] > 0).sum()
        assert found["missing_batches"] == 0
        assert set(found["different"].values()) == {0}
        assert found["first"] == []
        assert found["menu"][0] == found["menu"][1]
        assert found["models"] == {}


@pytest.mark.long
@pytest.mark.parametrize("keep", ["accepted", "all"])
def test_another_threshold_is_found_in_exactly_the_events_between(graph, record, again, keep):
    recorded = record(graph(keep=keep))
    everything = read(record(graph("all", keep="all"), name="all"))
    code, found, done = again(graph("lower", threshold=0.7), recorded, "--differences", 20_000)
    assert code == DIFFERENT, done
    score = everything["score"].combine_chunks().flatten().to_numpy().reshape(-1, 3)[:, 0]
    between = (score > np.float32(0.7)) & ~(score > np.float32(0.9))
    changed = everything["event_id"].to_numpy()[between]
    assert len(changed) > 10
    assert sorted(one["event_id"] for one in found["first"]) == sorted(changed.tolist())
    assert found["different"]["decision"] == len(changed)
    assert not found["same"]
    assert found["menu"][0] != found["menu"][1]
    before = dict(zip(everything["event_id"].to_pylist(), everything["decision"].to_pylist(),
                      strict=True))  # fmt: skip
    for one in found["first"]:
        assert one["decision"] == [before[one["event_id"]], before[one["event_id"]] | 1]


def test_events_that_end_otherwise_without_a_decision_are_counted(graph, record, again, make_graph):
    """A prescaled event that is now rejected changes no bit: only the numbers tell."""
    recorded = record(graph(columns=["event_id", "decision"]))
    other = graph("other")
    text = other.read_text()
    other.write_text(text.replace("score.pileup > 0.5", "score.pileup > 0.5 and event_id < 0"))
    code, found, done = again(other, recorded)
    assert code == DIFFERENT, done
    assert found["different"]["batches"] > 0
    assert found["different"]["events"] < found["events"] / 50


def test_events_without_a_decision_in_the_run_are_skipped(graph, recorded, again, tmp_path, wafers):
    path = graph()
    # The same wafers and ids, and others before them and after.
    longer = tmp_path / "longer.arrows"
    write_around(longer, wafers)
    code, found, done = again(path, recorded, source=longer)
    assert code == 0, done
    assert found["same"]


def write_around(path, wafers):
    table = read(wafers)
    ids = pa.array(np.arange(10**6, 10**6 + 100, dtype=np.uint64))
    more = table.slice(0, 100).set_column(
        0, table.schema.field("event_id"), pa.chunked_array([ids])
    )
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        for part in (more, table, more):
            stream.write_table(part)


def test_another_input_is_refused(graph, recorded, again, make_recording, tmp_path):
    path = graph()
    holes = tmp_path / "holes.arrows"
    table = read(make_recording(tmp_path / "w.arrows", 20_000))
    with pa.OSFile(str(holes), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table.filter(np.arange(20_000) % 1000 != 999))
    code, _, done = again(path, recorded, source=holes)
    assert code == 5, done
    # The second, where a batch begins with the event that is not there.
    assert "other events behind event" in done.err or "no event 1000" in done.err
    beyond = make_recording(tmp_path / "beyond.arrows", 100, first=10**6)
    code, _, done = again(path, recorded, source=beyond)
    assert code == 5, done
    assert "no event 1" in done.err


@pytest.mark.long
def test_a_run_that_kept_too_little_is_refused(graph, record, again):
    recorded = record(graph(columns=["event_id", "score"]))
    code, _, done = again(graph(), recorded)
    assert code == 2, done
    assert "'decision'" in done.err
    recorded = record(graph(columns=["event_id", "decision"]), name="other")
    code, _, done = again(graph(), recorded, "--compare", "score")
    assert code == 2, done
    assert "'score'" in done.err


def test_what_is_not_the_recording_of_a_run_is_refused(graph, again, wafers):
    code, _, done = again(graph(), wafers)
    assert code == 3, done
    assert "expected the recording of a run" in done.err


def test_a_rate_or_an_output_makes_no_sense_with_it(graph, recorded, again, tmp_path):
    for more in (("--rate", 5), ("--out", tmp_path / "x.arrows")):
        code, _, done = again(graph(), recorded, *more)
        assert code == 2, done
        assert "--same-batches" in done.err
