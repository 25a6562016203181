"""`import sluice`: a graph run by a function call, kept events as tables."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pytest
import zmq

import sluice
from sluice.exporters.simulation.in_memory import sample
from sluice.pipeline import api
from sluice.pipeline.cli.main import app
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.recording import RecordingWriter
from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.socket import Socket

WORDS = Schema((EVENT_ID, T_EVENT, Column("words", "uint32", (12,), "link words")))
#: Decides by lists: events with three items or more, of any length.
LISTS = """
[graph]
name = "lists"
[source]
use = "live"
columns = { pt = "float32[*]" }
[[stage]]
name = "count"
use = "lists.py:count"
[[stage]]
name = "menu"
use = "menu"
[[stage.path]]
name = "long"
where = "items >= 3"
[sink]
use = "recording"
columns = ["event_id", "pt", "items"]
"""
COUNT = """
import numpy as np
from sluice.pipeline.api import Column, Schema, stage
@stage(consumes=Schema([Column("pt", "float32", (None,))]),
       provides=Schema([Column("items", "uint16")]))
def count(pt):
    return pt.counts.astype(np.uint16)
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10,000 simulated wafers."""
    path = tmp_path_factory.mktemp("wafers") / "w.arrows"
    batch, _ = sample("wafers", 10_000, 3)
    writer = RecordingWriter(path, WORDS, {"run": 0})
    writer.write(batch.select(WORDS.names))
    writer.close({"run": 0})
    return path


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    (tmp_path / "lists.py").write_text(COUNT)
    graph = tmp_path / "lists.toml"
    graph.write_text(LISTS)
    return graph


def _words(events: int) -> dict[str, np.ndarray]:
    batch, _ = sample("wafers", events, 3)
    return {name: batch[name] for name in WORDS.names}


def test_every_public_name_is_there():
    for module in (sluice, api):
        for name in module.__all__:
            assert getattr(module, name) is not None, name


def test_kept_events_are_those_that_replay_records(recording, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = sluice.run("compress", str(recording))
    assert list(tmp_path.iterdir()) == []
    app(["replay", str(recording), "--graph", "compress", "--engine", "inline", "--run", "0",
         "--out", "out.arrows", "--json"], standalone_mode=False)  # fmt: skip
    recorded = sluice.read("out.arrows")
    assert result.to_arrow().equals(recorded.to_arrow(), check_metadata=True)
    assert result.events == len(result) == recorded.events == 10_000
    assert result.report["closed"]
    assert result.report["run"] == 0
    assert recorded.report["bor"]["graph"] == "compress"
    assert recorded.report["eor"]["closed"]
    assert recorded.report["damage"] is None
    assert repr(result) == "<Result: 10,000 events; event_id uint64, packed uint8[20]>"


def test_no_run_number_is_used_and_nothing_is_written(recording, tmp_path, monkeypatch):
    monkeypatch.setenv("SLUICE_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    sluice.run(sluice.load_graph("compress"), recording)
    assert list(tmp_path.iterdir()) == []


def test_arrays_and_tables_in_memory_give_what_the_file_gives(recording):
    expected = sluice.run("compress", recording).to_arrow()
    arrays = _words(10_000)
    assert sluice.run("compress", arrays).to_arrow().equals(expected)
    table = sluice.read(recording).to_arrow()
    assert sluice.run("compress", table).to_arrow().equals(expected)
    # A slice begins in the middle of its buffers.
    some = table.slice(17, 5_000).combine_chunks().to_batches()[0]
    assert sluice.run("compress", some).to_arrow().equals(expected.slice(17, 5_000))


def test_events_without_ids_are_numbered():
    words = {"words": _words(500)["words"]}
    assert sluice.run("compress", words).to_arrow()["event_id"].to_pylist() == list(range(500))


def test_twice_in_one_process_and_in_threads_at_once(recording):
    before = signal.getsignal(signal.SIGTERM)
    expected = sluice.run("compress", recording).to_arrow()
    found: list[pa.Table] = []
    threads = [
        threading.Thread(target=lambda: found.append(sluice.run("compress", recording).to_arrow()))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [table.equals(expected) for table in found] == [True, True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_leaves_the_sockets_of_its_program_alone(recording):
    """Ours and its own: another thread may be in the middle of a run."""
    theirs = zmq.Context.instance().socket(zmq.PAIR)
    ours = Socket("inproc://run-of-another-thread")
    try:
        sluice.run("compress", recording)
        theirs.bind("inproc://still-open")
        peer = Socket("inproc://run-of-another-thread", "peer")
        assert peer.send(Header(Kind.HELLO))
        peer.close()
    finally:
        ours.close()
        theirs.close()
    assert theirs.closed


def test_columns_and_keep_may_be_chosen(recording):
    result = sluice.run("hgcal", recording, columns=["event_id", "outcome"], keep="all")
    assert result.events == 10_000
    assert result.to_arrow().column_names == ["event_id", "outcome"]


def test_awkward_arrays_keep_item_shapes_and_lists(recording, lists):
    packed = sluice.run("compress", recording).to_awkward()
    assert str(ak.type(packed.packed)) == "10000 * 20 * uint8"
    pt = api.Ragged.of([[1, 2], [5, 6, 7], [], [1, 2, 3, 4]], "float32")
    result = sluice.run(lists, {"pt": pt})
    assert result.to_arrow()["pt"].to_pylist() == [[5, 6, 7], [1, 2, 3, 4]]
    assert pa.types.is_list(result.to_arrow()["pt"].type)
    kept = result.to_awkward()
    assert kept.pt.to_list() == [[5, 6, 7], [1, 2, 3, 4]]
    assert kept["items"].to_list() == [3, 4]
    table = pa.table({"pt": pa.array([[1, 2], [5, 6, 7], []], pa.list_(pa.float32()))})
    assert sluice.run(lists, table).to_awkward().pt.to_list() == [[5, 6, 7]]
    nothing = sluice.run(lists, table.slice(0, 1))
    assert nothing.events == 0
    assert nothing.to_awkward().to_list() == nothing.to_arrow().to_pylist() == []


@pytest.mark.parametrize("package", ["awkward", "pandas"])
def test_a_missing_package_is_named_with_its_command(recording, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    result = sluice.read(recording)
    with pytest.raises(api.ConfigError, match=f"pip install {package}"):
        getattr(result, f"to_{package}")()


@pytest.mark.modules("pandas")
def test_pandas(recording):
    frame = sluice.read(recording).to_pandas()
    assert len(frame) == 10_000


@pytest.mark.parametrize(
    ("source", "kind", "says"),
    [
        ("nothing.arrows", api.DataError, "cannot open"),
        ("nothing.txt", api.DataError, "nothing.txt: cannot open: no such file"),
        (17, api.DataError, "expected a path, a dict"),
        ({}, api.DataError, "expected columns"),
        ({"words": np.zeros((5, 12))}, api.ConfigError, r"expected uint32\[12\], got float64"),
        ({"words": np.array(["a"])}, api.DataError, "expected an array of numbers"),
        ({"words": np.zeros((5, 12), np.uint32), "event_id": np.zeros(5)}, api.DataError,
         "expected uint64, got float64"),
        ({"words": np.zeros((5, 12), np.uint32), "event_id": np.zeros(4, np.uint64)},
         api.DataError, "columns of one length"),
        (pa.table({"words": ["a", "b"]}), api.DataError, "expected columns of numbers"),
    ],
)  # fmt: skip
def test_a_wrong_source_is_refused(source, kind, says):
    with pytest.raises(kind, match=says):
        sluice.run("compress", source)


def test_options_that_do_not_fit_are_refused(recording):
    with pytest.raises(api.ConfigError, match="no such engine"):
        sluice.run("compress", recording, engine="fast")
    with pytest.raises(api.ConfigError, match="no such graph"):
        sluice.run("compres", recording)
    with pytest.raises(api.ConfigError, match="columns to keep"):
        sluice.run("compress", recording, columns=[])


def test_a_run_that_fails_raises(lists):
    text = COUNT.replace("astype(np.uint16)", "astype(np.float64)")
    (lists.parent / "lists.py").write_text(text)
    with pytest.raises(api.SluiceError, match=r"expected uint16, got float64"):
        sluice.run(lists, {"pt": api.Ragged.of([[1.0]], "float32")})
