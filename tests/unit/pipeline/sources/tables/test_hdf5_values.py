"""HDF5: lists that add up, values that were written, links, filters, and files that are open."""

from __future__ import annotations

import fcntl
import itertools

import numpy as np
import pytest

from sluice.pipeline.core.errors import ConfigError, DataError

h5py = pytest.importorskip("h5py", reason="the extra hdf5 is not installed")

COUNTS = np.array([2, 0, 3, 1, 0])
ENDS = np.cumsum(COUNTS)
BEGINS = ENDS - COUNTS
ITEMS = np.arange(6, dtype=np.int16) * 10
LISTS = [ITEMS[a:b].tolist() for a, b in zip(BEGINS, ENDS, strict=True)]


@pytest.fixture
def lists(tmp_path, read):
    """Write an index of lists and read the lists."""

    numbers = itertools.count()

    def found(mapping, max_events=2, items=ITEMS, **index):
        path = tmp_path / f"lists{next(numbers)}.h5"
        with h5py.File(path, "w") as file:
            file["items"], file["mass"] = items, np.arange(len(COUNTS), dtype=np.float32)
            for name, values in index.items():
                file[name] = values
        entry = {"form": "int16[*]", "from": "items", **{kind: kind for kind in mapping}}
        got, source, rejected = read("hdf5", path, max_events, columns={"x": entry})
        assert (rejected, source.corruption) == ([], None)
        return got["x"].tolist() if got else []

    return found


@pytest.mark.parametrize("dtype", ["u4", "i8", "u1", ">i4"])
@pytest.mark.parametrize(
    ("kinds", "index"),
    [
        (["offsets"], {"offsets": np.append(0, ENDS)}),
        (["ends"], {"ends": ENDS}),
        (["begins"], {"begins": BEGINS}),
        (["counts"], {"counts": COUNTS}),
        (["begins", "counts"], {"begins": BEGINS, "counts": COUNTS}),
    ],
)
def test_each_kind_of_index_gives_the_same_lists(lists, kinds, index, dtype):
    stored = {kind: values.astype(dtype) for kind, values in index.items()}
    for max_events in (1, 2, 100):
        assert lists(kinds, max_events, **stored) == LISTS


def test_counts_of_more_events_than_a_block(lists, monkeypatch):
    monkeypatch.setattr("sluice.pipeline.sources.tables.hdf5.list_index._BLOCK", 2)
    for max_events in (1, 2, 3):
        assert lists(["counts"], max_events, counts=COUNTS) == LISTS


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("offsets", ENDS, "expected the first list to begin at item 0, got 2"),
        ("offsets", [0, 2, 2, 5], "expected the last list to end at item 6 of 'items', got 5"),
        ("offsets", [0, 2, 2, 5, 9], "expected the last list to end at item 6 of 'items', got 9"),
        ("ends", BEGINS, "expected the last list to end at item 6 of 'items', got 6|got 5"),
        ("ends", COUNTS, "expected the last list to end at item 6 of 'items', got 0"),
        ("begins", ENDS, "expected the first list to begin at item 0, got 2"),
        ("counts", ENDS, "expected the last list to end at item 6 of 'items', got 21"),
        ("counts", [2, -1, 5], "counts: event 1: expected 0 items or more, got -1"),
    ],
)
def test_an_index_that_does_not_add_up_is_refused(lists, kind, values, message):
    if kind == "ends" and values is BEGINS:
        values = [0, 2, 2, 5, 5]
    with pytest.raises(DataError, match=message) as error:
        lists([kind], **{kind: np.asarray(values)})
    assert "column 'x'" in str(error.value)


def test_begins_that_contradict_the_counts_are_refused(lists):
    begins = BEGINS.copy()
    begins[3] = 4
    with pytest.raises(DataError, match="event 3: expected its list to begin at item 5"):
        lists(["begins", "counts"], begins=begins, counts=COUNTS)


def test_two_kinds_of_index_contradict_each_other(lists):
    with pytest.raises(ConfigError, match="expected one of offsets, ends, begins, counts"):
        lists(["ends", "counts"], ends=ENDS, counts=COUNTS)


def test_lists_without_any_item(lists):
    none = np.empty(0, np.int16)
    assert lists(["ends"], items=none, ends=np.zeros(5, int)) == [[]] * 5
    assert lists(["ends"], items=none, ends=np.empty(0, int)) == []
    assert lists(["offsets"], items=none, offsets=np.zeros(1, int)) == []


@pytest.mark.data("legend/LDQTA_r117_cal_geds_raw.lh5")
def test_real_vectors_of_vectors(data_dir, read):
    path = data_dir / "legend" / "LDQTA_r117_cal_geds_raw.lh5"
    entry = {"form": "int16[*]", "from": "tracelist/flattened_data",
             "ends": "tracelist/cumulative_length"}  # fmt: skip
    got, _, rejected = read("hdf5", path, 7, group="geds/raw", columns={"traces": entry})
    with h5py.File(path) as file:
        table = file["geds/raw/tracelist"]
        ends = [0, *table["cumulative_length"][:].tolist()]
        items = table["flattened_data"][:]
    assert rejected == []
    assert got["traces"].tolist() == [items[a:b].tolist() for a, b in itertools.pairwise(ends)]


@pytest.fixture
def virtual(tmp_path):
    """Write a virtual dataset of 20 values over two files; return its path."""

    def written(sizes=(10, 10), mapped=(10, 10)):
        for number, size in enumerate(sizes):
            with h5py.File(tmp_path / f"run{number}.h5", "w") as file:
                file["x"] = np.arange(size) + 100 * number
        layout = h5py.VirtualLayout(20, np.int64)
        for number, size in enumerate(mapped):
            source = h5py.VirtualSource(f"run{number}.h5", "x", shape=(size,))
            layout[10 * number : 10 * number + size] = source
        with h5py.File(tmp_path / "all.h5", "w") as file:
            file.create_virtual_dataset("x", layout)
            file["y"] = np.arange(20)
        return tmp_path / "all.h5"

    return written


def test_a_virtual_dataset_is_read_from_its_files(virtual, read):
    got, _, _ = read("hdf5", virtual())
    assert got["x"].tolist() == [*range(10), *range(100, 110)]


def test_a_virtual_dataset_without_a_file_is_refused_if_it_is_read(virtual, read, tmp_path):
    path = virtual()
    (tmp_path / "run1.h5").unlink()
    with pytest.raises(DataError, match=r"column 'x': .* cannot open .*run1\.h5"):
        read("hdf5", path, columns={"x": "int64"})
    got, _, _ = read("hdf5", path, columns={"y": "int64"})
    assert got["y"].tolist() == list(range(20))
    with h5py.File(tmp_path / "run1.h5", "w") as file:
        file["other"] = np.arange(10)
    with pytest.raises(DataError, match="got no such dataset"):
        read("hdf5", path, columns={"x": "int64"})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"sizes": (10, 7)}, "expected 10 values, got 7"),
        ({"mapped": (10, 6)}, "expected 20 values from the sources .* got 16"),
    ],
)
def test_virtual_datasets_with_values_of_no_source(virtual, read, how, message):
    with pytest.raises(DataError, match=message):
        read("hdf5", virtual(**how), columns={"x": "int64"})


def test_a_virtual_dataset_that_grows_is_refused(tmp_path, read):
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.create_dataset("x", data=np.arange(5), maxshape=(None,), chunks=(5,))
    end = h5py.h5s.UNLIMITED
    layout = h5py.VirtualLayout((5,), np.int64, maxshape=(None,))
    source = h5py.VirtualSource("run.h5", "x", shape=(5,), maxshape=(None,))
    layout[:end] = source[:end]
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    with pytest.raises(DataError, match="expected a source of fixed size") as error:
        read("hdf5", tmp_path / "all.h5", columns={"x": "int64"})
    assert "copy the data" in str(error.value)


def test_events_of_chunks_that_were_never_written_are_invalid(tmp_path, read):
    path = tmp_path / "part.h5"
    with h5py.File(path, "w") as file:
        flat = file.create_dataset("flat", (10,), "f4", chunks=(3,))
        flat[:3] = flat[6:9] = 7
        grid = file.create_dataset("grid", (10, 4), "f4", chunks=(5, 2))
        grid[:5], grid[5:, :2] = 8, 8
    got, _, rejected = read("hdf5", path, columns={"flat": "float32"})
    assert got["event_id"].tolist() == [0, 1, 2, 6, 7, 8]
    assert set(got["flat"].tolist()) == {7}
    assert [bad.where for bad in rejected] == [f"part.h5: event {n}" for n in (3, 4, 5, 9)]
    assert {bad.reason for bad in rejected} == {
        "flat: expected a value, got one that was never written"
    }
    got, _, rejected = read("hdf5", path, columns={"grid": "float32[4]"})
    assert got["event_id"].tolist() == [0, 1, 2, 3, 4]


def test_lists_with_items_that_were_never_written_are_invalid(tmp_path, read):
    path = tmp_path / "part.h5"
    with h5py.File(path, "w") as file:
        items = file.create_dataset("items", (8,), "i4", chunks=(2,))
        items[:2] = items[4:] = [1]
        file["ends"] = [2, 2, 5, 8]
    entry = {"form": "int32[*]", "from": "items", "ends": "ends"}
    got, _, rejected = read("hdf5", path, columns={"x": entry})
    assert got["event_id"].tolist() == [0, 1, 3]
    assert got["x"].tolist() == [[1, 1], [], [1, 1, 1]]
    assert [bad.where for bad in rejected] == ["part.h5: event 2"]


def test_a_dataset_that_was_never_written_is_refused_if_it_is_read(tmp_path, read):
    path = tmp_path / "none.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (10,), "f4")
        file["y"] = np.arange(10)
    assert read("hdf5", path, columns={"y": "int64"})[0]["y"].tolist() == list(range(10))
    with pytest.raises(DataError, match="expected 10 values, got none: it was never written"):
        read("hdf5", path, columns={"x": "float32"})


def test_raw_data_in_a_file_that_is_too_short(tmp_path, read):
    path, raw = tmp_path / "t.h5", tmp_path / "raw.bin"
    with h5py.File(path, "w") as file:
        external = [(str(raw), 0, 40)]
        file.create_dataset("x", (10,), "f4", external=external)[:] = np.arange(10)
    assert read("hdf5", path)[0]["x"].tolist() == list(range(10))
    raw.write_bytes(raw.read_bytes()[:20])
    with pytest.raises(DataError, match="expected 40 bytes in its external file"):
        read("hdf5", path, columns={"x": "float32"})


@pytest.fixture
def linked(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["energy"] = np.arange(5.0)
        file["up"] = h5py.ExternalLink("master.h5", "/")
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file["entry/energy"] = np.arange(5.0) + 10
        file["hard"] = file["entry/energy"]
        file["soft"] = h5py.SoftLink("/entry/energy")
        file["far"] = h5py.ExternalLink("data.h5", "/energy")
        file["group"] = h5py.SoftLink("/entry")
        file["entry/around"] = h5py.SoftLink("/")
        file["other"] = h5py.ExternalLink("data.h5", "/")
        file["lost"] = h5py.SoftLink("/nowhere")
        file["gone"] = h5py.ExternalLink("gone.h5", "/x")
        file["round"], file["about"] = h5py.SoftLink("/about"), h5py.SoftLink("/round")
    return tmp_path / "master.h5"


@pytest.mark.parametrize("name", ["entry/energy", "hard", "soft", "far", "group/energy"])
def test_links_are_followed(linked, read, name):
    mapping = {"x": {"form": "float64", "from": name}, "y": {"form": "float64", "from": "far"}}
    got, _, _ = read("hdf5", linked, columns=mapping)
    offset = 0 if name == "far" else 10
    assert got["x"].tolist() == [value + offset for value in range(5)]
    assert got["y"].tolist() == list(range(5))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lost", "'lost': expected numbers, got a soft link to '/nowhere' that leads to nothing"),
        ("round", "'round': expected numbers, got a soft link to '/about'"),
        ("gone", "got an external link to '/x' of the file 'gone.h5' that leads to nothing"),
    ],
)
def test_links_that_lead_to_nothing_are_named(linked, read, name, message):
    with pytest.raises(DataError, match=message):
        read("hdf5", linked, columns={"x": {"form": "float64", "from": name}})
    with pytest.raises(DataError, match="leads to nothing"):
        read("hdf5", linked, group=name)


def test_a_file_that_a_writer_has_open(tmp_path, make):
    path = tmp_path / "open.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(10)
    with path.open("rb") as writer:  # HDF5 locks a file that it writes in the same way
        fcntl.flock(writer, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="got one that a writer has open") as error:
            make("hdf5", path).open()
    assert "wait for the writer" in str(error.value)


def test_a_filter_that_is_missing_is_named_with_the_remedy(tmp_path, read, monkeypatch):
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(100.0), chunks=(10,), compression="gzip")
        file["y"] = np.arange(100.0)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    with pytest.raises(DataError, match=r"expected a filter .* got .*\(1\)") as error:
        read("hdf5", path, columns={"x": "float64"})
    assert "pip install hdf5plugin" in str(error.value)
    assert read("hdf5", path, columns={"y": "float64"})[0]["y"].tolist() == list(range(100))
