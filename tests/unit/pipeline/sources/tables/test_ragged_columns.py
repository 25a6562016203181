"""Lists of a table become ragged columns: of one field, of several, or of items and offsets."""

import itertools

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from sluice.pipeline.core.errors import ConfigError, DataError

KINDS = ["arrow-file", "arrow-stream", "hdf5", "parquet", "root-tree", "root-ntuple"]
COUNTS = [2, 0, 5, 1, 0, 3]


def lists(seed, counts=COUNTS):
    """Return lists of float32."""
    random = np.random.default_rng(seed)
    return [random.normal(size=count).astype(np.float32) for count in counts]


def lists_of(ragged):
    """Return lists of lists of numbers."""
    return ragged.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_lists_of_one_field_need_not_be_named(write, read, kind):
    pt = lists(1)
    path, use = write(kind, {"pt": pt})
    got, source, rejected = read(use, path, max_events=4)
    assert rejected == []
    assert source.schema["pt"].shape == (None,)
    assert lists_of(got["pt"]) == [entries.tolist() for entries in pt]


@pytest.mark.parametrize("kind", KINDS)
def test_several_fields_are_zipped_item_to_item(write, read, kind):
    pt, eta = lists(1), lists(2)
    charge = [np.arange(count, dtype=np.int32) for count in COUNTS]
    path, use = write(kind, {"pt": pt, "eta": eta, "charge": charge})
    entry = {"form": "float32[*,3]", "from": ["pt", "eta", "charge"]}
    got, source, rejected = read(use, path, max_events=4, columns={"candidates": entry})
    assert rejected == []
    assert source.schema["candidates"].shape == (None, 3)
    assert lists_of(got["candidates"]) == [
        np.stack(together, axis=1).tolist() for together in zip(pt, eta, charge, strict=True)
    ]


@pytest.mark.parametrize("kind", ["hdf5", "parquet", "root-ntuple"])
def test_fields_of_other_lengths_are_refused_event_by_event(write, read, kind):
    pt, eta = lists(1, [2, 1, 3]), lists(2, [2, 3, 3])
    path, use = write(kind, {"pt": pt, "eta": eta})
    entry = {"form": "float32[*,2]", "from": ["pt", "eta"]}
    got, _, rejected = read(use, path, columns={"both": entry})
    assert got["event_id"].tolist() == [0, 2]
    assert lists_of(got["both"]) == [np.stack([pt[i], eta[i]], axis=1).tolist() for i in (0, 2)]
    (bad,) = rejected
    assert (bad.where, bad.events) == (f"{path.name}: event 1", 1)
    assert bad.reason == "eta: expected as many items as pt, 1, got 3"
    kind = "f8" if use == "root" else "f4"  # as it was written
    assert bad.payload == eta[1].astype(kind).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_too_many_items_are_refused_or_cut(write, read, kind):
    pt = lists(1)
    path, use = write(kind, {"pt": pt})
    got, _, rejected = read(use, path, columns={"pt": "float32[<=3]"})
    assert got["event_id"].tolist() == [0, 1, 3, 4, 5]
    assert [bad.reason for bad in rejected] == ["pt: expected at most 3 items, got 5"]
    got, _, rejected = read(use, path, columns={"pt": {"form": "float32[<=3]", "cut": True}})
    assert rejected == []
    assert lists_of(got["pt"]) == [entries[:3].tolist() for entries in pt]


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_do_not_fit_condemn_their_event(write, read, kind):
    q = [np.array(entries, np.int64) for entries in ([1, 2], [], [3, 300], [4])]
    path, use = write(kind, {"q": q})
    got, _, rejected = read(use, path, columns={"q": "uint8[*]"})
    assert lists_of(got["q"]) == [[1, 2], [], [4]]
    assert [bad.reason for bad in rejected] == ["q: expected uint8, got 300"]


def test_items_with_offsets_in_hdf5(tmp_path, read):
    """The way that many write lists: items one after another, and where each list begins."""
    path = tmp_path / "t.h5"
    items = np.arange(22, dtype=np.float32).reshape(11, 2)
    offsets = np.cumsum([0, *COUNTS])
    with h5py.File(path, "w") as file:
        file["jets/items"], file["jets/offsets"] = items, offsets
        file["mass"] = np.arange(len(COUNTS), dtype=np.float32)
    entry = {"form": "float32[*,2]", "from": "jets/items", "offsets": "jets/offsets"}
    got, source, _ = read("hdf5", path, max_events=4, columns={"jets": entry, "mass": "float32"})
    expected = [items[a:b].tolist() for a, b in itertools.pairwise(offsets)]
    assert lists_of(got["jets"]) == expected
    assert source.expected == len(COUNTS)
    assert got["mass"].tolist() == list(range(len(COUNTS)))


@pytest.mark.parametrize(
    ("offsets", "where"),
    [([0, 2, 1, 4], "event 1"), ([0, 9, 3, 4], "event 0"), ([0, 2, -1, 4], "event 1")],
)
def test_broken_offsets_in_hdf5_are_damage(tmp_path, make, offsets, where):
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file["items"], file["offsets"] = np.arange(4, dtype=np.float32), offsets
    columns = {"x": {"form": "float32[*]", "from": "items", "offsets": "offsets"}}
    source = make("hdf5", path, columns=columns)
    source.open()
    while not source.exhausted:
        source.read(10)
    source.close()
    assert f"damaged at {where}: offsets" in source.corruption
    assert "expected a list within 4 items" in source.corruption


def test_lists_of_items_in_parquet_and_nulls(tmp_path, read):
    path = tmp_path / "t.parquet"
    kind = pa.list_(pa.list_(pa.float32(), 2))
    rows = [[[1, 2], [3, 4]], None, [], [[5, None]], [None], [[7, 8]]]
    pq.write_table(pa.table({"x": pa.array(rows, kind)}), path)
    got, source, rejected = read("parquet", path)
    assert source.schema["x"].spec == "float32[*,2]"
    assert lists_of(got["x"]) == [[[1, 2], [3, 4]], [], [[7, 8]]]
    assert [bad.where for bad in rejected] == [f"t.parquet: event {row}" for row in (1, 3, 4)]
    assert {bad.reason for bad in rejected} == {"x: expected a list, got null"}


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ({"form": "float32[*]", "pad": 0}, ConfigError, "pad: expected none"),
        ({"form": "float32[*,2]"}, DataError, r"expected float32\[\*,2\], got float32\[\*\]"),
        ({"form": "float32[*,2]", "from": ["q", "x"]}, DataError, r"got float64"),
        ({"form": "float32[*,3]", "from": ["q", "q"]}, ConfigError, "expected 3 names"),
        ({"form": "float32[*]", "from": ["q", "nix"]}, DataError, "'nix'"),
        ({"form": "int32[*]"}, DataError, r"expected int32\[\*\], got float32\[\*\]"),
        ({"form": "float32[*]", "from": "x", "offsets": "q"}, DataError, "expected integers"),
        (
            {"form": "float32[*]", "from": "x", "offsets": "n"},
            ConfigError,
            "offsets: expected none",
        ),
        (
            {"form": "float32[*]", "from": "q", "offsets": "n"},
            DataError,
            "expected items, got lists",
        ),
        ({"form": "float32[*]", "from": "x", "offsets": "o"}, DataError, "expected 'o'"),
        ({"form": "float32[2,*]"}, ConfigError, r"'float32\[2,\*\]'"),
    ],
)
def test_wrong_mappings_are_refused(write, read, entry, error, message):
    table = {"q": lists(1, [2, 3]), "x": np.zeros(2), "n": np.array([0, 1])}
    path, use = write("parquet", table)
    with pytest.raises(error, match=message):
        read(use, path, columns={"q": entry})


def test_names_become_the_entries_of_items_of_fixed_size(write, read):
    path, use = write("parquet", {"a": np.arange(3.0), "b": np.arange(3.0) + 10})
    got, _, _ = read(use, path, columns={"ab": {"form": "float32[2]", "from": ["a", "b"]}})
    assert got["ab"].tolist() == [[0, 10], [1, 11], [2, 12]]


def test_a_batch_ends_before_its_lists_are_too_long_for_a_message(write, make, monkeypatch):
    pt = lists(1, [3, 3, 9, 1, 1, 1])
    path, use = write("parquet", {"pt": pt})
    monkeypatch.setattr("sluice.pipeline.sources.rebatching._MAX_LIST_BYTES", 4 * 6)
    source = make(use, path)
    source.open()
    got = []
    while (batch := source.read(4)) is not None:
        got.append(lists_of(batch["pt"]))
    source.close()
    assert [len(part) for part in got] == [2, 1, 3]
    assert list(itertools.chain(*got)) == [entries.tolist() for entries in pt]


@pytest.mark.data("root/pfnano.root")
def test_real_candidates(data_dir, read):
    """Particle-flow candidates of real collisions, held against uproot and awkward."""
    path = data_dir / "root" / "pfnano.root"
    names = ["PFCands_pt", "PFCands_eta", "PFCands_phi", "PFCands_charge"]
    entry = {"form": "float32[*,4]", "from": names}
    got, source, rejected = read("root", path, max_events=3, columns={"candidates": entry})
    assert rejected == []
    with uproot.open({path: None}) as file:
        branches = file["Events"].arrays(names)
    assert source.expected == len(branches) == len(got["candidates"])
    for row, items in enumerate(got["candidates"]):
        assert len(items) > 100
        for place, name in enumerate(names):
            assert items[:, place].tolist() == branches[name][row].to_numpy().astype("f4").tolist()
