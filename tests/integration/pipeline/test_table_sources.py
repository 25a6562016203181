"""Runs over HDF5, ROOT and Parquet files: the same decisions as from a recording."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sluice.pipeline.recording import RecordingReader

h5py = pytest.importorskip("h5py", reason="the extra hdf5 is not installed")
uproot = pytest.importorskip("uproot", reason="the extra root is not installed")


def columns(recording):
    reader = RecordingReader(recording)
    batches = list(reader.batches())
    reader.close()
    names = ("event_id", "t_event", "words")
    return {name: np.concatenate([batch[name] for batch in batches]) for name in names}


def write(path, data):
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, values in data.items():
                file[name] = values
    elif path.suffix == ".root":
        with uproot.recreate(path) as file:
            file["Events"] = data
    else:
        lists = pa.FixedSizeListArray.from_arrays(pa.array(data["words"].reshape(-1)), 12)
        pq.write_table(pa.table({**data, "words": lists}), path, row_group_size=3000)


@pytest.mark.parametrize(
    "suffix",
    [
        pytest.param(".h5", marks=pytest.mark.long),
        ".root",
        pytest.param(".parquet", marks=pytest.mark.long),
    ],
)
def test_same_decisions_as_from_a_recording(
    sluice, together, tmp_path, wafers, make_graph, load_report, assert_same_recording, suffix
):
    columns_kept = ["event_id", "t_event", "packed", "score", "decision"]
    graph = make_graph(sink={"use": "recording", "keep": "all", "columns": columns_kept})
    path = tmp_path / f"wafers{suffix}"
    write(path, columns(wafers))
    ours, theirs = (
        (file, "--graph", graph, "--run", 1 + n,
         "--report", tmp_path / f"{n}.json", "--out", tmp_path / f"{n}.arrows")
        for n, file in enumerate((path, wafers))
    )  # fmt: skip
    for done in together(("replay", *ours), ("replay", *theirs)):
        assert done.code == 0, done
    assert load_report(tmp_path / "0.json")["events"] == load_report(tmp_path / "1.json")["events"]
    assert assert_same_recording(tmp_path / "0.arrows", tmp_path / "1.arrows") == 20_000
    done = sluice("check", "hgcal", "--for", path)
    assert done.code == 0, done


def test_a_cut_file_is_replayed_up_to_the_cut(sluice, tmp_path, wafers, load_report):
    path, report = tmp_path / "cut.h5", tmp_path / "r.json"
    write(path, {"words": columns(wafers)["words"]})
    path.write_bytes(path.read_bytes()[: 2048 + 48 * 7000])
    done = sluice("replay", path, "--graph", "hgcal", "--report", report)
    assert done.code == 6, done
    assert "cut short" in done.err or "damaged at event 7000" in done.err
    result = load_report(report)
    assert result["events"]["offered"] == 7000
    assert "damaged at event 7000" in result["damage"]


def test_events_that_do_not_fit_are_counted_and_kept(
    sluice, tmp_path, wafers, make_graph, load_report
):
    """The graph's own mapping holds for whatever table is replayed; misfits are quarantined."""
    path, report = tmp_path / "t.root", tmp_path / "r.json"
    words = columns(wafers)["words"].astype(np.int64)
    words[[5, 70], 3] = -1, 2**32
    with uproot.recreate(path) as file:
        file["Events"] = {f"w_{i}": words[:, i] for i in range(12)}
    source = {"use": "parquet", "path": "none.parquet",
              "columns": {"words": {"from": "w", "form": "uint32[12]"}}}  # fmt: skip
    done = sluice(
        "replay", path, "--graph", make_graph(source=source), "--report", report,
        "--quarantine", tmp_path / "q.arrows",
    )  # fmt: skip
    assert done.code == 0, done
    result = load_report(report)
    assert result["events"]["offered"] == len(words)
    assert result["events"]["invalid"] == 2
    assert sorted(result["quarantine"]["reasons"]) == [
        "w_3: expected uint32, got -1", "w_3: expected uint32, got 4294967296"
    ]  # fmt: skip
    with pa.OSFile(str(tmp_path / "q.arrows")) as file:
        kept = pa.ipc.open_stream(file).read_all().to_pydict()
    assert kept["where"] == ["t.root: event 5", "t.root: event 70"]
    assert kept["payload"] == [np.int64(value).tobytes() for value in (-1, 2**32)]


def test_refusals(sluice, tmp_path, make_graph):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"charges": [1.0, 2.0]}), path)
    source = {"use": "parquet", "path": str(path), "columns": {"charge": "float32[48]"}}
    done = sluice("replay", path, "--graph", make_graph(source=source))
    assert done.code == 3, done
    assert "column 'charge': expected 'charge' in the file" in done.err
    assert "did you mean 'charges'?" in done.err
    source["columns"] = {"charge": {"form": "float32[48]", "fill": 0}}
    done = sluice("replay", path, "--graph", make_graph(source=source))
    assert done.code == 2, done
    assert "fill" in done.err
    done = sluice("replay", tmp_path / "none.feather", "--graph", "hgcal")
    assert done.code == 3, done
    assert "none.feather: cannot open: no such file" in done.err


@pytest.mark.long
def test_real_root_files_end_with_a_word(data_dir, together, make_graph):
    """Files that are broken or lack what the graph needs are refused, without a traceback."""
    files = sorted((data_dir / "root").glob("*.root"))
    assert files
    for path, done in zip(
        files, together(*(("replay", path, "--graph", "hgcal") for path in files)), strict=True
    ):
        assert done.code in (2, 3), (path, done)
        assert "sluice: error: " in done.err, done
