"""Lists of any length through the engines: every event closes, whatever it is, and they agree."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import tomli_w

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.recording import RecordingReader, RecordingWriter

TRACKS = Column("tracks", "float32", (None, 3))
SCHEMA = Schema((EVENT_ID, T_EVENT, TRACKS, Column("scale", "float32")))
EVENTS, MAX_TRACKS, TRAPPED = 3000, 20, (77, 78, 1500)
ENGINES = {
    "inline": ("--engine", "inline"),
    "two workers": ("--workers", "2"),
}


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """A recording: most lists are short, some empty, some cut, two too long for shared memory."""
    rng = np.random.default_rng(5)
    counts = rng.geometric(0.2, EVENTS) - 1
    counts[[600, 601]] = 50_000
    tracks = rng.integers(-50, 50, (counts.sum(), 3)).astype(np.float32)
    columns = {
        "event_id": np.arange(EVENTS, dtype=np.uint64),
        "t_event": np.arange(EVENTS),
        "tracks": Ragged.from_counts(tracks, counts),
        "scale": np.ones(EVENTS, np.float32),
    }
    path = tmp_path_factory.mktemp("lists") / "lists.arrows"
    whole = EventBatch(columns, EVENTS)
    with RecordingWriter(path, SCHEMA, {"events": EVENTS}) as writer:
        for start in range(0, EVENTS, 1100):
            writer.write(whole.slice(start, start + 1100))
    return path, whole


@pytest.fixture
def graph(tmp_path, list_sum):
    list_sum(tmp_path / "models")
    columns = ["event_id", "tracks", "total", "length", "outcome", "decision"]
    tables = {
        "graph": {"name": "lists", "batch_events": 256},
        "source": {"use": "recording", "path": "none.arrows"},
        "stage": [
            {"use": "test.trap", "name": "trap", "ids": list(TRAPPED)},
            {
                "use": "infer",
                "name": "sum",
                "model": "list-sum",
                "buckets": {"tracks": [4, MAX_TRACKS]},
            },
            {"use": "menu", "path": [{"name": "many", "where": "length > 6"}]},
        ],
        "sink": {"use": "recording", "keep": "all", "columns": columns},
    }
    path = tmp_path / "lists.toml"
    path.write_text(tomli_w.dumps(tables))
    return path


def read(path):
    """Return all events of a recording as one Arrow table."""
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_stream(file).read_all().combine_chunks()


def test_every_event_closes_and_engines_agree(sluice, lists, graph, tmp_path, load_report):
    path, whole = lists
    tables = {}
    for name, options in ENGINES.items():
        report, out = tmp_path / f"{name}.json", tmp_path / f"{name}.arrows"
        done = sluice(
            "replay", path, "--graph", graph, "--report", report, "--out", out, *options,
            "--quarantine", tmp_path / f"{name}.quarantine.arrows",
            env={"SLUICE_MODELS": str(tmp_path / "models")},
        )  # fmt: skip
        assert done.code == 0, done
        result = load_report(report)
        assert result["closed"]
        assert result["events"]["offered"] == EVENTS
        assert result["events"]["failed"] == result["quarantine"]["rows"] == len(TRAPPED)
        counts = whole["tracks"].counts
        cut = np.flatnonzero(counts > MAX_TRACKS)
        assert result["stages"]["sum"]["truncated"] == len(cut)
        tables[name] = read(out)
    first = tables["inline"]
    assert all(first.equals(table) for table in tables.values())
    failed = np.isin(np.arange(EVENTS), TRAPPED)
    lengths = np.where(failed, 0, np.minimum(counts, MAX_TRACKS))
    assert first["length"].to_numpy().tolist() == lengths.tolist()
    totals = [np.zeros(3) if failed[i] else whole["tracks"][i][:MAX_TRACKS].sum(axis=0)
              for i in range(EVENTS)]  # fmt: skip
    got = first["total"].combine_chunks().flatten().to_numpy().reshape(-1, 3)
    assert got.tolist() == np.array(totals).tolist()
    assert (first["decision"].to_numpy() == (lengths > 6)).all()
    reader = RecordingReader(out)
    kept = [batch["tracks"] for batch in reader.batches()]
    reader.close()
    assert [items.tobytes() for part in kept for items in part] == [
        items.tobytes() for items in whole["tracks"]
    ]


def test_the_same_batches_again_give_the_same_decisions(
    sluice, lists, graph, tmp_path, load_report
):
    path, _ = lists
    env = {"SLUICE_MODELS": str(tmp_path / "models")}
    done = sluice("replay", path, "--graph", graph, "--out", tmp_path / "run.arrows",
                  "--workers", 2, env=env)  # fmt: skip
    assert done.code == 0, done
    done = sluice(
        "replay", path, "--graph", graph, "--same-batches", tmp_path / "run.arrows",
        "--report", tmp_path / "same.json", env=env,
    )  # fmt: skip
    assert done.code == 0, done
    comparison = load_report(tmp_path / "same.json")["output"]["comparison"]
    assert comparison["same"]
    assert comparison["events"] == EVENTS
