"""Bad input through the real command line: message, exit code, count, and nothing else lost."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, T_INGEST, Column, Schema
from sluice.pipeline.recording import RecordingReader, RecordingWriter

INLINE = ("--graph", "hgcal", "--engine", "inline")
WORDS_HEADER = ",".join(f"RX_DATA_{i}" for i in range(12))
CHARGE_HEADER = ",".join(f"CALQ_{i}" for i in range(48))
GOOD_LINE = ",".join(["a1234567"] * 12)


@pytest.fixture
def replay(sluice, tmp_path):
    """Replay a file inline; return what ended, and the report if there is one."""

    def run(path, *more, env=None):
        report = tmp_path / "report.json"
        report.unlink(missing_ok=True)
        done = sluice("replay", path, *INLINE, "--report", report, *more, env=env)
        return done, json.loads(report.read_text()) if report.exists() else None

    return run


def refused(done, code, *words):
    assert done.code == code, done
    for word in words:
        assert word in done.err, done


@pytest.mark.parametrize("engine", ["inline", "distributed"])
def test_truncated_recording(engine, sluice, wafers, tmp_path, load_report):
    cut = tmp_path / "cut.arrows"
    content = wafers.read_bytes()
    cut.write_bytes(content[: len(content) * 2 // 3])
    reader = RecordingReader(cut)
    events = sum(batch.events for batch in reader.batches())
    reader.close()
    assert 0 < events < 20_000
    report = tmp_path / "r.json"
    done = sluice("replay", cut, "--graph", "hgcal", "--engine", engine, "--report", report)
    refused(done, 6, "damaged", "cut.arrows", "whole batches")
    result = load_report(report)
    assert result["events"]["offered"] == events
    assert result["state"] == "STOPPED"
    assert "cut.arrows" in result["damage"]
    inspected = sluice("inspect", cut, "--json")
    assert inspected.code == 6
    assert json.loads(inspected.out)["events"] == events
    assert json.loads(inspected.out)["whole"] is False


def test_recording_cut_while_it_is_replayed(launch, http, wafers, tmp_path, load_report):
    mine = tmp_path / "mine.arrows"
    events = _repeat(wafers, 15, mine)  # far more than is read ahead
    report = tmp_path / "r.json"
    command = launch(
        "replay", mine, *INLINE, "--rate", 40_000, "--report", report,
        "--http", f"127.0.0.1:{http.port}",
    )  # fmt: skip
    http.settled(command, 1000)
    os.truncate(mine, mine.stat().st_size * 2 // 3)
    done = command.finish(30)
    refused(done, 6, "damaged", "mine.arrows")
    assert events // 2 <= load_report(report)["events"]["offered"] < events


def _repeat(recording, times, path):
    """Record the same events several times; return how many they are then."""
    reader = RecordingReader(recording)
    batches = list(reader.batches())
    with RecordingWriter(path, reader.schema, {}) as writer:
        for _ in range(times):
            for batch in batches:
                writer.write(batch)
    reader.close()
    return times * sum(batch.events for batch in batches)


def test_not_a_recording(together, tmp_path):
    contents = {
        "empty.arrows": b"",
        "binary.arrows": bytes(range(256)) * 10,
        "magic.arrows": b"ARROW1\0\0" + b"\xff" * 200,
        "half.arrows": b"\xff\xff\xff\xff\x00\x01\x00\x00" + b"abc",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    done = together(*(("replay", tmp_path / name, *INLINE) for name in contents))
    for name, one in zip(contents, done, strict=True):
        refused(one, 3, name)
    for name, one in zip(
        contents, together(*(("inspect", name) for name in contents)), strict=True
    ):
        refused(one, 3, name)


def test_a_table_of_text_is_one_whatever_its_name(sluice, tmp_path):
    path = tmp_path / "text.arrows"
    path.write_text("event_id,words\n1,2\n" * 100)
    refused(sluice("replay", path, *INLINE), 2, "column 'words'", "expected uint32[12]")


def test_wrong_magic_names_expected_and_got(replay, wafers, tmp_path):
    path = tmp_path / "wrong.arrows"
    path.write_bytes(b"\x00\x01\x02\x03" + wafers.read_bytes()[4:])
    refused(replay(path)[0], 3, "wrong.arrows", r"\xff\xff\xff\xff", r"\x00\x01\x02\x03")


def test_no_such_file(together):
    names = ("nothing.arrows", "nothing.csv", "nothing.root", "nothing.pdf")
    one, two, three, four = together(*(("replay", name, *INLINE) for name in names))
    refused(one, 3, "nothing.arrows")
    refused(two, 3, "nothing.csv")
    refused(three, 3, "nothing.root")
    refused(four, 3, "nothing.pdf")


def write(path, schema, columns, info=None):
    events = len(next(iter(columns.values())))
    with RecordingWriter(path, schema, info) as writer:
        writer.write(EventBatch(columns, events))
    return path


def test_joins_that_do_not_fit_are_named_before_anything_starts(together, tmp_path):
    cases = {
        "none": (None, "no such column"),
        "shape": (Column("words", "uint32", (11,)), "uint32[11]"),
        "dtype": (Column("words", "int64", (12,)), "int64[12]"),
    }
    for name, (column, _) in cases.items():
        schema = Schema((EVENT_ID, T_EVENT, *([column] if column else [])))
        blank = {c.name: np.zeros_like(c.empty(5)) for c in schema}
        write(tmp_path / f"{name}.arrows", schema, blank)
    done = together(
        *(("replay", f"{name}.arrows", *INLINE, "--report", f"{name}.json") for name in cases)
    )
    for (name, (_, got)), one in zip(cases.items(), done, strict=True):
        refused(one, 2, "unpack", "'words'", "expected uint32[12]", f"got {got}")
        assert not (tmp_path / f"{name}.json").exists()
        assert not (tmp_path / f"{name}.accepted.arrows").exists()


def test_event_id_of_another_type_is_refused_before_anything_starts(replay, tmp_path):
    schema = Schema((Column("event_id", "int32"), Column("words", "uint32", (12,))))
    path = write(tmp_path / "x.arrows", schema, {c.name: np.zeros_like(c.empty(5)) for c in schema})
    done, report = replay(path)
    refused(done, 3, "x.arrows", "'event_id'", "expected uint64", "got int32")
    assert report is None


@pytest.mark.parametrize("engine", ["inline", "distributed"])
def test_events_of_any_time_are_processed_like_others(engine, sluice, tmp_path, load_report):
    """Times of the detector's clock are only carried along, far future and far past alike."""
    times = np.arange(1000) * 25
    times[[100, 200, 300, 400]] = 0, -1, 2**63 - 1, -(2**63)
    columns = {
        "event_id": np.arange(1000, dtype=np.uint64), "t_event": times,
        "t_ingest": times[::-1].copy(), "words": np.zeros((1000, 12), np.uint32),
    }  # fmt: skip
    schema = Schema((EVENT_ID, T_EVENT, T_INGEST, Column("words", "uint32", (12,))))
    path = write(tmp_path / "times.arrows", schema, columns)
    done = sluice(
        "replay", path, "--graph", "hgcal", "--engine", engine, "--rate", 20_000,
        "--report", tmp_path / "report.json",
    )  # fmt: skip
    assert done.code == 0, done
    report = load_report(tmp_path / "report.json")
    assert report["events"]["offered"] == 1000
    assert report["events"]["invalid"] == report["events"]["failed"] == 0
    assert 0 < report["latency_s"]["max"] < 30


def test_nan_and_negative_charges_are_invalid_and_nothing_else_is_lost(
    replay, tmp_path, load_report
):
    rng = np.random.default_rng(3)
    charge = rng.integers(0, 200, (1000, 48)).astype(np.float32)
    charge[10, 3] = np.nan
    charge[20, 0] = np.inf
    charge[30, 47] = -1.0
    charge[31] = -np.inf
    charge[40] = 0.0  # no charge at all is sound
    columns = {"event_id": np.arange(1000, dtype=np.uint64), "charge": charge}
    schema = Schema((EVENT_ID, Column("charge", "float32", (48,), "ADC")))
    path = write(tmp_path / "charges.arrows", schema, columns)
    quarantine = tmp_path / "bad.arrows"
    done, report = replay(path, "--quarantine", quarantine)
    assert done.code == 0, done
    report = load_report(tmp_path / "report.json")
    assert report["events"]["offered"] == 1000
    assert report["events"]["invalid"] == 4
    assert report["bypassed"] == ["unpack"]
    assert sum(report["quarantine"]["reasons"].values()) == 4
    with pa.OSFile(str(quarantine)) as file:
        table = pa.ipc.open_stream(file).read_all()
    assert sorted(table["event_id"].to_pylist()) == [10, 20, 30, 31]
    assert set(table["stage"].to_pylist()) == {"normalise"}
    by_id = dict(zip(table["event_id"].to_pylist(), table["reason"].to_pylist(), strict=True))
    assert "not finite" in by_id[10]
    assert "not finite" in by_id[20]
    assert "negative" in by_id[30]


def test_blank_events_and_blank_recordings(replay, tmp_path, load_report):
    schema = Schema((EVENT_ID, Column("charge", "float32", (48,))))
    columns = {"event_id": np.arange(300, dtype=np.uint64), "charge": np.zeros((300, 48), "f4")}
    done, report = replay(write(tmp_path / "zeros.arrows", schema, columns))
    assert done.code == 0, done
    assert report["events"]["offered"] == 300
    assert report["events"]["invalid"] == report["events"]["failed"] == 0
    assert report["closed"]
    empty = {name: array[:0] for name, array in columns.items()}
    done, report = replay(write(tmp_path / "none.arrows", schema, empty))
    assert done.code == 0, done
    assert report["events"]["offered"] == 0
    assert report["closed"]


@pytest.mark.parametrize("engine", ["inline", "distributed"])
def test_bad_csv_lines_are_counted_and_kept_with_their_numbers(
    engine, sluice, tmp_path, load_report
):
    lines = [WORDS_HEADER] + [GOOD_LINE] * 50
    lines[11] = GOOD_LINE.rpartition(",")[0]  # 11 words
    lines[21] = GOOD_LINE.replace("a1234567", "a12345zz", 1)
    lines[31] = GOOD_LINE.replace("a1234567", "1a1234567", 1)  # 33 bits
    lines[41] = ""
    path = tmp_path / "words.csv"
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode())
    report, quarantine = tmp_path / "r.json", tmp_path / "q.arrows"
    done = sluice(
        "replay", path, "--graph", "hgcal", "--engine", engine, "--report", report,
        "--quarantine", quarantine,
    )  # fmt: skip
    assert done.code == 0, done
    result = load_report(report)
    assert result["events"]["offered"] == 50
    assert result["events"]["invalid"] == 4
    with pa.OSFile(str(quarantine)) as file:
        table = pa.ipc.open_stream(file).read_all()
    assert table["where"].to_pylist() == [f"words.csv: line {n}" for n in (12, 22, 32, 42)]
    reasons = table["reason"].to_pylist()
    assert "expected 12 fields, got 11" in reasons[0]
    assert "a12345zz" in reasons[1]
    assert "expected uint32, got" in reasons[2]
    assert table["payload"].to_pylist()[1].decode() == lines[21]


def test_csv_without_events_and_with_a_wrong_header(replay, together, tmp_path):
    path = tmp_path / "only-header.csv"
    path.write_text(CHARGE_HEADER + "\n")
    done, report = replay(path)
    assert done.code == 0, done
    assert report["events"]["offered"] == 0
    contents = {"e.csv": "", "abc.csv": "A,B,C\n1,2,3\n"}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    empty, other = together(*(("replay", name, *INLINE) for name in contents))
    refused(empty, 3, "e.csv", "line 1", "expected a header")
    refused(other, 2, "words", "columns here", "A, B, C")


def test_output_must_not_be_the_input(together, wafers, tmp_path):
    mine = tmp_path / "mine.arrows"
    shutil.copy(wafers, mine)
    link = tmp_path / "link.arrows"
    link.symlink_to(mine)
    before = mine.read_bytes()
    for one in together(*(("replay", mine, *INLINE, "--out", out) for out in (mine, link))):
        refused(one, 2, "mine.arrows")
    assert mine.read_bytes() == before


def test_bad_options_are_refused_before_anything_starts(together, wafers):
    cases = [
        (("--run", "5000000000"), "--run"),
        (("--report", "/"), "expected a file"),
        (("--report", "/proc/nowhere/r.json"), "/proc/nowhere"),
        (("--out", "{nothing}.arrows"), "nothing"),
        (("--out", "/proc/nowhere/x.arrows"), "/proc/nowhere"),
        (("--http", "0.0.0.0:80"), "loopback"),
        (("--engine", "inlin"), "inline"),
        (("--rate", "-1"), "rate"),
    ]
    done = together(*(("replay", wafers, *INLINE, "--out", f"{number}.arrows", *options)
                      for number, (options, _) in enumerate(cases)))  # fmt: skip
    for (options, word), one in zip(cases, done, strict=True):
        assert one.code in (2, 5), (options, one)
        assert word in one.err, (options, one)
        assert "offered" not in one.out, (options, one)


def test_graph_files_that_are_wrong(together, make_graph, wafers, tmp_path):
    (tmp_path / "no-toml.toml").write_text("[graph\n")
    cases = [
        (make_graph("key", graph={"batch_event": 5}), ("batch_event", "batch_events")),
        ("no-toml.toml", ("not TOML", "no-toml.toml")),
        ("hgcl", ("did you mean 'hgcal'?",)),
        ("no.toml", ("no.toml",)),
        (make_graph("sink", sink={"columns": ["scor"]}), ("'scor'", "score")),
        (make_graph("out", source={"listen": "tcp://0.0.0.0:5560"}), ("expected keys",)),
    ]
    for (_, words), one in zip(
        cases, together(*(("check", graph) for graph, _ in cases)), strict=True
    ):
        refused(one, 2, *words)


@pytest.fixture
def inconsistent_models(models, tmp_path):
    """A repository in front of the shipped one whose tagger a test may spoil."""
    folder = tmp_path / "repository" / "wafer-tagger" / "1"
    shutil.copytree(models / "wafer-tagger" / "1", folder)
    return folder, {"SLUICE_MODELS": str(tmp_path / "repository")}


def test_models_that_do_not_fit_their_manifest_are_refused(inconsistent_models, together, wafers):
    """Each kind of contradiction is tried in the unit tests; here the message and the exit code."""
    folder, env = inconsistent_models
    manifest = (folder / "manifest.toml").read_text()
    looks = (("replay", wafers, *INLINE), ("check", "hgcal"), ("models",))
    (folder / "manifest.toml").write_text(manifest.replace("shape = [\n    3,\n]", "shape = [2]"))
    for one in together(*looks[:2], env=env):
        # The ladder's models give what it promised to: that is seen before the file is read.
        refused(one, 2, "wafer-tagger/1", "float32[2]", "wafer-tagger-half/1", "float32[3]")
    (folder / "manifest.toml").write_text(manifest)
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-1] + b"!")
    for one in together(*looks[1:], env=env):
        refused(one, 4, "wafer-tagger/1", "sha256")
    (folder / "manifest.toml").unlink()
    for one in together(*looks[:2], env=env):
        refused(one, 4, "wafer-tagger/1", "manifest.toml is missing")


def test_a_repository_that_is_not_there_is_named(sluice):
    done = sluice("models", env={"SLUICE_MODELS": "/nowhere/models"})
    assert done.code in (2, 4), done
    assert "/nowhere/models" in done.err


def test_emulator_with_bad_arguments(together):
    for one in together(
        ("emulate", "wafers", "--to", "garbage"),
        ("emulate", "waffers"),
        ("emulate", "--from", "no.arrows"),
    ):
        assert one.code in (2, 3), one
        assert "error:" in one.err


def test_emulator_with_an_empty_recording(sluice, tmp_path):
    schema = Schema((EVENT_ID, T_EVENT, Column("words", "uint32", (12,))))
    path = write(tmp_path / "none.arrows", schema, {c.name: c.empty(0) for c in schema})
    refused(sluice("emulate", "--from", path), 3, "none.arrows")
