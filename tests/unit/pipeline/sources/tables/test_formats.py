"""What each format has of its own, and real files."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sluice.pipeline.core.errors import DataError

h5py = pytest.importorskip("h5py", reason="the extra hdf5 is not installed")
uproot = pytest.importorskip("uproot", reason="the extra root is not installed")
ak = pytest.importorskip("awkward", reason="the extra root is not installed")

formats = pytest.mark.parametrize("kind", ["hdf5", "parquet", "root-tree", "root-ntuple"])


def test_hdf5_groups_and_compounds(tmp_path, read):
    path = tmp_path / "t.h5"
    inner = np.dtype([("x", "<f4"), ("n", "<u2", (3,))])
    table = np.zeros(4, [("id", "<i8"), ("at", inner), ("name", "S4")])
    table["id"], table["at"]["x"], table["at"]["n"] = [5, 6, 7, 8], 1.5, [[1, 2, 3]] * 4
    with h5py.File(path, "w") as file:
        file["run/jets"] = table
        file["run/pt"] = np.arange(4.0)
        file["other"] = np.arange(9)
    got, _, _ = read("hdf5", path, group="run/jets")
    assert got["at.n"].tolist() == [[1, 2, 3]] * 4
    mapping = {
        "event_id": {"from": "run/jets.id"},
        "x": {"from": "run/jets.at.x", "form": "float32"},
        "pt": {"from": "run/pt", "form": "float32"},
    }
    got, _, _ = read("hdf5", path, columns=mapping)
    assert got["event_id"].tolist() == [5, 6, 7, 8]
    assert got["x"].tolist() == [1.5] * 4
    with pytest.raises(DataError, match="of one length, got"):
        read("hdf5", path)
    with pytest.raises(DataError, match="'ran': expected it in the file") as error:
        read("hdf5", path, group="ran")
    assert "did you mean 'run'?" in str(error.value)
    with pytest.raises(DataError, match="expected numbers, got"):
        read("hdf5", path, group="run/jets", columns={"name": "uint8"})


def test_trees_are_named_where_there_are_several(tmp_path, read):
    path = tmp_path / "t.root"
    with uproot.recreate(path) as file:
        file["one"] = {"x": np.arange(3)}
        file["two"] = {"x": np.arange(5)}
    with pytest.raises(DataError, match="expected one tree, got one, two"):
        read("root", path)
    assert read("root", path, tree="two")[1].expected == 5
    with pytest.raises(DataError, match="tree 'tow': expected it in the file") as error:
        read("root", path, tree="tow")
    assert "did you mean 'two'?" in str(error.value)


def test_a_null_is_no_value(tmp_path, read):
    path = tmp_path / "t.parquet"
    pair = pa.list_(pa.float32(), 2)
    table = {"x": pa.array([1, None, 3], pa.int32()), "many": pa.array([[1.0], [], None, ]),
             "two": pa.array([[1, 2], [3, 4], [5, None]], pair)}  # fmt: skip
    pq.write_table(pa.table(table), path)
    got, _, rejected = read("parquet", path, columns={"x": "int32"})
    assert got["x"].tolist() == [1, 3]
    assert [bad.reason for bad in rejected] == ["x: expected a value, got null"]
    got, _, rejected = read("parquet", path, columns={"two": "float32[2]"})
    assert got["two"].tolist() == [[1, 2], [3, 4]]
    got, _, rejected = read("parquet", path, columns={"many": {"form": "float32", "pad": 9}})
    assert got["many"].tolist() == [1, 9]
    assert [bad.where for bad in rejected] == ["t.parquet: event 2"]


def test_a_row_group_that_is_mostly_compressed_air_is_refused(tmp_path, read, monkeypatch):
    monkeypatch.setattr("sluice.pipeline.sources.tables.parquet._MAX_GROUP_BYTES", 100_000)
    path = tmp_path / "t.parquet"
    zeros = np.zeros(100_000)
    columns = {"x": zeros, "a.x": zeros, "y": np.random.default_rng(1).normal(size=100_000)}
    pq.write_table(pa.table(columns), path, compression="zstd", use_dictionary=False)
    for name in ("x", "a.x"):
        says = f"column '{name}': row group 0: expected at most 100000 bytes"
        with pytest.raises(DataError, match=says):
            read("parquet", path, columns={name: "float64"})
    got, _, _ = read("parquet", path, columns={"y": "float64"})
    np.testing.assert_array_equal(got["y"], columns["y"])


def test_real_root_files(data_dir, read):
    """Every ROOT file beside the project is read, or refused with a reason."""
    said = {}
    files = sorted((data_dir / "root").glob("*.root"))
    assert files
    for path in files:
        try:
            got, source, _ = read("root", path)
        except DataError as error:
            said[path.name] = str(error)
            continue
        assert len(got["event_id"]) == source.expected > 0
        assert source.corruption is None
    broken = {"bad_delphes.root", "uproot-issue-586.root", "uproot-issue70.root"}
    assert said.keys() == broken & {path.name for path in files}
    for name in broken & said.keys():
        assert "expected a TTree or an RNTuple, got" in said[name]


@pytest.mark.parametrize(
    ("name", "mapping", "upper_bound"),
    [
        pytest.param(name, mapping, upper_bound, marks=pytest.mark.data(f"root/{name}"))
        for name, mapping, upper_bound in (
            ("nanoAOD_2015_CMS_Open_Data_ttbar.root", {"from": "Jet_pt"}, 1000),
            ("cmsopendata2015_ttbar_19980_NANOAOD_RNTupleImporter_rntuple_v1-0-0-1.root",
             {"from": "Jet_pt"}, 1000),
            ("pfnano.root", {"from": "PFCands_pt"}, 1e4),
            ("uproot-issue-643.root", {"from": "pf.first.fE"}, 1e6),
        )
    ],
)  # fmt: skip
def test_real_lists(data_dir, read, name, mapping, upper_bound):
    path = data_dir / "root" / name
    form = {"form": "float32[8]", "pad": 0, "cut": True}
    got, source, rejected = read("root", path, columns={"x": mapping | form})
    assert rejected == []
    assert got["x"].shape == (source.expected, 8)
    assert 0 < got["x"].max() < upper_bound
    with uproot.open({path: None}) as file:
        tree = next(file[k] for k, c in file.classnames().items() if c.endswith(("TTree", "Tuple"))
                    and k.startswith(("Events", "ntuple0/objects")))  # fmt: skip
        branch, *inside = mapping["from"].split(".")
        oracle = tree[branch].array()
        for step in inside:
            oracle = oracle[step]
    padded = ak.fill_none(ak.pad_none(oracle[:, :8], 8), 0)
    np.testing.assert_array_equal(got["x"], ak.to_numpy(padded).astype(np.float32))


@formats
def test_stop_reads_no_further(write, kind, columns, make):
    path, use = write(kind, columns(50))
    source = make(use, path)
    source.open()
    assert source.read(10).events == 10
    source.stop()
    assert source.exhausted
    assert source.read(10) is None
    source.close()


@formats
def test_selected_columns_alone_are_read(write, read, kind, columns):
    path, use = write(kind, columns(5))
    got, source, _ = read(use, path, select=("words", "event_id"))
    assert "charge" in source.schema
    assert set(got) == {"event_id", "t_event", "t_ingest", "words"}
    got, _, _ = read(use, path, select=("event_id",))
    assert got["event_id"].tolist() == list(range(5))


@formats
def test_big_events_come_in_small_chunks(write, kind, monkeypatch, columns, make):
    monkeypatch.setattr("sluice.pipeline.sources.prefetch._CHUNK_BYTES", 12 * 4 * 10)
    path, use = write(kind, {"words": columns(95)["words"]})
    source = make(use, path)
    source.open()
    table = source.open_table(path)
    sizes = [chunk.events for chunk in table.chunks(list(table.fields.values()), 10)]
    table.close()
    assert sum(sizes) == 95
    # A cluster of an RNTuple is read as a whole.
    assert max(sizes) == (95 if kind == "root-ntuple" else 10)
    source.close()


@formats
def test_no_events(write, read, kind, columns):
    path, use = write(kind, columns(0))
    got, source, rejected = read(use, path, columns={"words": "uint32[12]"})
    assert (got, rejected) == ({}, [])
    assert source.expected == 0
    assert source.corruption is None
