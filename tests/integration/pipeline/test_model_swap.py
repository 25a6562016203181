"""Models are swapped in a run: nothing is lost, and every event names the model it went through."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import threading
import time
import tomllib

import numpy as np
import pyarrow as pa
import pytest
import tomli_w

from sluice.pipeline.inference.repository import read_model
from sluice.pipeline.inference.session import open_session

COLUMNS = ["event_id", "latent_q", "sum_q", "score", "decision", "batch_seq", "epoch"]
SINK = {"use": "recording", "keep": "all", "columns": COLUMNS}
RATE = 2500


@pytest.fixture
def my_models(models, tmp_path):
    """The shipped models, with versions of the tagger that a test may spoil."""
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    return folder


def another_version(folder, version, **changes):
    """Write a version of the tagger whose bias differs, so that its scores do, too."""
    import onnx
    from onnx import numpy_helper

    from sluice.pipeline.config.strict import strict_convert
    from sluice.pipeline.inference.manifest import Manifest
    from sluice.pipeline.inference.repository import write_model

    first = folder / "wafer-tagger" / "1"
    manifest = tomllib.loads((first / "manifest.toml").read_text())
    manifest |= {"version": version, "layers": "", "layers_sha256": "", **changes}
    graph = onnx.load(first / "model.onnx")
    for tensor in graph.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.shape == (3,):
            moved = array + np.float32(version) * np.array([1, -1, 0], np.float32)
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
            break
    else:
        pytest.fail("no bias of three scores")
    with np.load(first / "golden.npz") as golden:
        inputs = {key[3:]: golden[key] for key in golden if key.startswith("in_")}
        outputs = {key[4:]: golden[key] for key in golden if key.startswith("out_")}
    made = write_model(
        folder,
        strict_convert(manifest, Manifest, "test"),
        graph.SerializeToString(),
        inputs,
        outputs,
    )
    # Golden outputs are what the model gives.
    import onnxruntime as ort

    session = ort.InferenceSession(str(made.path), providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, inputs), strict=True))
    return write_model(folder, made.manifest, made.path.read_bytes(), inputs, outputs)


@pytest.fixture
def ctl(sluice, http):
    def act(*arguments):
        return sluice("ctl", *arguments, "--address", f"127.0.0.1:{http.port}")

    return act


@pytest.fixture
def paced(launch, http, make_graph, make_recording, my_models, tmp_path):
    """Start a paced replay of 60,000 wafers, all kept; return the command."""
    recording = make_recording(tmp_path / "w.arrows", 60_000)

    def start(*options, graph=None):
        graph = graph or make_graph(sink=SINK, graph={"batch_events": 500})
        command = launch(
            "replay", recording, "--graph", graph, "--rate", RATE,
            "--report", tmp_path / "r.json", "--out", tmp_path / "o.arrows",
            "--http", f"127.0.0.1:{http.port}", *options, env={"SLUICE_MODELS": str(my_models)},
        )  # fmt: skip
        http.settled(command, 1000)
        return command

    return start


def columns_of(path):
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_stream(file).read_all()
    found = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        values = column.values if pa.types.is_fixed_size_list(column.type) else column
        array = values.to_numpy()
        found[name] = array.reshape(len(table), -1) if values is not column else array
    return found


def rescored(model, rows, mine):
    """Score events with a model, by itself."""
    session = open_session(model, "onnxruntime:cpu", "test")
    inputs = {t.name: np.ascontiguousarray(rows[t.name][mine]) for t in model.manifest.inputs}
    outputs = {t.name: t.column.empty(int(mine.sum())) for t in model.manifest.outputs}
    session.infer(inputs, outputs)
    session.close()
    return outputs["score"]


def check_every_event(path, versions, swaps):
    """Every event is there once, in order, and was scored by the model of its epoch."""
    rows = columns_of(path)
    assert rows["event_id"].tolist() == list(range(1, len(rows["event_id"]) + 1))
    assert (np.diff(rows["epoch"].astype(int)) >= 0).all()
    assert set(rows["epoch"]) == set(range(len(versions)))
    for epoch, model in enumerate(versions):
        mine = rows["epoch"] == epoch
        assert np.allclose(rows["score"][mine], rescored(model, rows, mine), atol=1e-4)
    for epoch, swap in enumerate(swaps, 1):
        first = int(np.flatnonzero(rows["epoch"] == epoch)[0])
        assert rows["batch_seq"][first] == swap["seq"]
        assert rows["event_id"][first] == swap["first_event"]
        assert swap["epoch"] == epoch


def graph_of(make_graph):
    """The shipped graph with the tagger on ONNX Runtime, as the other versions are."""
    path = make_graph(sink=SINK, graph={"batch_events": 500})
    tables = tomllib.loads(path.read_text())
    for stage in tables["stage"]:
        if stage.get("name") == "tag":
            stage.pop("backend", None)
            stage["version"] = 1
    path.write_text(tomli_w.dumps(tables))
    return path


@pytest.mark.long
@pytest.mark.parametrize("engine", ["inline", "distributed"])
def test_swaps_under_load(
    engine, paced, ctl, http, make_graph, my_models, tmp_path, load_report, sluice
):
    second = another_version(my_models, 2)
    command = paced("--engine", engine, "--workers", 2, graph=graph_of(make_graph))
    swapped = ctl("swap", "tag", "wafer-tagger@2")
    assert swapped.code == 0, swapped
    assert re.match(
        r"epoch 1 · tag: wafer-tagger@1 → wafer-tagger@2 from batch \d+ on", swapped.out
    )
    page = http.get("/metrics")[1]
    assert re.search(r'sluice_model_info{.*name="wafer-tagger",.*version="2"} 1.0', page)
    assert not re.search(r'sluice_model_info{.*name="wafer-tagger",.*version="1"}', page)
    again = ctl("swap", "tag", "wafer-tagger")  # the newest is the second
    assert again.code == 5, again
    assert "wafer-tagger/2 already" in again.err
    back = ctl("swap", "tag", "wafer-tagger@1")
    assert back.code == 0, back
    assert ctl("stop").code == 0
    done = command.finish()
    assert done.code in (0, 9), done  # 0 where the input was over first
    report = load_report(tmp_path / "r.json")
    assert report["events"]["failed"] == report["events"]["lost"] == 0
    assert [(s["from"]["version"], s["to"]["version"]) for s in report["swaps"]] == [
        ("1", "2"), ("2", "1"),
    ]  # fmt: skip
    assert report["models"]["tag"]["version"] == "1"
    first = read_model(my_models / "wafer-tagger" / "1")
    check_every_event(tmp_path / "o.arrows", [first, second, first], report["swaps"])
    facts = json.loads(sluice("inspect", tmp_path / "o.arrows", "--json").out)
    assert facts["eor"]["swaps"] == report["swaps"]
    assert facts["bor"]["models"]["tag"]["version"] == "1"
    assert report["latency_s"]["p99"] < 2


@pytest.mark.long
def test_workers_killed_around_a_swap_lose_nothing(
    paced, ctl, http, make_graph, my_models, tmp_path, load_report
):
    second = another_version(my_models, 2)
    command = paced("--workers", 2, graph=graph_of(make_graph))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ctl("swap", "tag", "wafer-tagger@2")))
    thread.start()
    for _ in range(2):  # some before the swap, some in it, some after it
        time.sleep(0.7)
        for worker in command.workers():
            worker.send_signal(signal.SIGKILL)
            time.sleep(0.7)
    thread.join(60)
    (swapped,) = answers
    if swapped.code != 0:  # a worker died twice while it loaded the model: refused, not lost
        assert "workers die while they load" in swapped.err
        assert ctl("swap", "tag", "wafer-tagger@2").code == 0
    for worker in command.workers()[:1]:  # one that comes back in the new epoch
        worker.send_signal(signal.SIGKILL)
    now = json.loads(http.get("/status")[1])["report"]["events"]["offered"]
    http.settled(command, min(58_000, now + 5000))
    assert ctl("stop").code == 0
    done = command.finish()
    assert done.code in (0, 9), done  # 0 where the input was over first
    report = load_report(tmp_path / "r.json")
    assert sum(report["restarts"].values()) >= 3
    assert report["events"]["failed"] == report["events"]["lost"] == 0
    first = read_model(my_models / "wafer-tagger" / "1")
    check_every_event(tmp_path / "o.arrows", [first, second], report["swaps"])


@pytest.mark.long
@pytest.mark.parametrize("engine", ["inline", "distributed"])
def test_what_cannot_be_swapped_is_refused_and_the_old_model_goes_on(
    engine, paced, ctl, make_graph, my_models, tmp_path, load_report
):
    another_version(my_models, 2)
    golden = my_models / "wafer-tagger" / "2" / "golden.npz"
    with np.load(golden) as arrays:
        wrong = {key: array + (key == "out_score") for key, array in arrays.items()}
    np.savez_compressed(golden, **{k: v.astype(np.float32) for k, v in wrong.items()})
    manifest = golden.with_name("manifest.toml")
    table = tomllib.loads(manifest.read_text())
    table["golden_sha256"] = hashlib.sha256(golden.read_bytes()).hexdigest()
    manifest.write_text(tomli_w.dumps(table))
    command = paced("--engine", engine, graph=graph_of(make_graph))
    for arguments, words in (
        (("tag", "wafer-tagger@2"), "expected the golden outputs"),
        (("tag", "wafer-encoder-9b"), "inputs: expected those of wafer-tagger/1"),
        (("tag", "wafer-tagger@7"), "expected a version of [1, 2], got 7"),
        (("tag", "wafer-taggr"), "did you mean 'wafer-tagger'"),
        (("tag", "wafer-tagger@new"), "NAME@VERSION"),
        (("tagg", "wafer-tagger@2"), "did you mean 'tag'"),
    ):
        refused = ctl("swap", *arguments)
        assert refused.code == 5, refused
        assert words in refused.err, refused
    assert ctl("stop").code == 0
    assert command.finish().code in (0, 9)  # 0 where the input was over first
    report = load_report(tmp_path / "r.json")
    assert report["swaps"] == []
    assert report["models"]["tag"]["version"] == "1"
    assert report["events"]["failed"] == 0
    assert report["restarts"] == {}
    first = read_model(my_models / "wafer-tagger" / "1")
    check_every_event(tmp_path / "o.arrows", [first], [])


def test_a_shadow_counts_what_its_model_would_have_decided(
    sluice, make_graph, wafers, my_models, tmp_path, load_report
):
    another_version(my_models, 2)
    decisions, reports = {}, {}
    for name, options in (
        ("production", {"version": 1, "shadow": ["wafer-tagger@2"]}),
        ("other", {"version": 2}),
    ):
        path = make_graph(name, sink=SINK, graph={"batch_events": 500})
        tables = tomllib.loads(path.read_text())
        for stage in tables["stage"]:
            if stage.get("name") == "tag":
                stage.pop("backend", None)
                stage |= options
        path.write_text(tomli_w.dumps(tables))
        done = sluice(
            "replay", wafers, "--graph", path, "--workers", 2, "--rate", 8000, "--out",
            tmp_path / f"{name}.arrows", "--report", tmp_path / f"{name}.json",
            env={"SLUICE_MODELS": str(my_models)},
        )  # fmt: skip
        assert done.code == 0, done
        reports[name] = load_report(tmp_path / f"{name}.json")
        decisions[name] = columns_of(tmp_path / f"{name}.arrows")["decision"]
    found = reports["production"]["shadows"]["tag/wafer-tagger@2"]
    assert (found["seen"], found["dropped"], found["off"]) == (20_000, 0, None)
    mine, theirs = decisions["production"], decisions["other"]
    assert (mine != theirs).any()
    for bit, counts in enumerate(found["paths"].values()):
        a, b = ((d >> np.uint64(bit)) & np.uint64(1) for d in (mine, theirs))
        assert counts["both"] == int((a & b).sum())
        assert counts["only_production"] == int((a & ~b & np.uint64(1)).sum())
        assert counts["only_shadow"] == int((b & ~a & np.uint64(1)).sum())
    accepted = found["accepted"]
    for name, ways in (("production", ("both", "lost")), ("other", ("both", "gained"))):
        assert reports[name]["events"]["accepted"] == sum(accepted[way] for way in ways)
    assert reports["other"]["shadows"] == {}
