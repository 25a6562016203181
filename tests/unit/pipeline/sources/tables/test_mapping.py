"""Columns of tables: what fits is read, what does not is refused with the reason."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sluice.pipeline.core.errors import ConfigError, DataError

KINDS = ["arrow-file", "arrow-stream", "hdf5", "parquet", "root-tree", "root-ntuple"]
formats = pytest.mark.parametrize("kind", KINDS)


def lists(lengths, dtype=np.float32):
    ends = np.cumsum([0, *lengths])
    return [np.arange(a, b, dtype=dtype) for a, b in itertools.pairwise(ends)]


@formats
@pytest.mark.parametrize("max_events", [1, 7, 50, 1000])
def test_every_value_comes_back(write, read, kind, max_events, columns):
    given = columns(50)
    path, use = write(kind, given)
    got, source, rejected = read(use, path, max_events)
    assert rejected == []
    assert source.corruption is None
    assert source.expected == (None if use == "arrow" else 50)
    for name, values in given.items():
        np.testing.assert_array_equal(got[name], values)
    assert got["event_id"].tolist() == list(range(50))
    assert (got["t_event"] == 0).all()
    assert got["t_ingest"].dtype == np.int64


@formats
def test_mapped_columns_alone_are_there(write, read, kind, columns):
    given = columns(20)
    path, use = write(kind, given)
    mapping = {"q": {"from": "charge", "form": "float64[6,8]", "unit": "ADC"},
               "event_id": {"from": "number"}}  # fmt: skip
    got, source, _ = read(use, path, columns=mapping)
    assert source.schema.names == ("event_id", "t_event", "t_ingest", "q")
    assert source.schema["q"].unit == "ADC"
    np.testing.assert_array_equal(got["q"], given["charge"].reshape(-1, 6, 8).astype(float))
    assert got["event_id"].tolist() == list(range(20))


@formats
def test_columns_of_the_reserved_names_are_taken(write, read, kind):
    ids = np.array([7, 3, 9], np.int64)
    path, use = write(kind, {"event_id": ids, "t_event": ids * 25, "q": np.ones(3, np.float32)})
    for mapping in ({}, {"q": "float32"}):
        got, _, _ = read(use, path, columns=mapping)
        assert got["event_id"].tolist() == [7, 3, 9]
        assert got["t_event"].tolist() == [175, 75, 225]


@formats
def test_an_event_id_below_zero_is_no_event(write, read, kind):
    path, use = write(kind, {"event_id": np.array([7, -3, 9]), "q": np.ones(3, np.float32)})
    got, _, rejected = read(use, path)
    assert got["event_id"].tolist() == [7, 9]
    (bad,) = rejected
    assert bad.where == f"{path.name}: event 1"
    assert bad.reason == "event_id: expected uint64, got -3"
    assert np.frombuffer(bad.payload, np.int64).tolist() == [-3]


@formats
def test_one_branch_for_each_entry(write, read, kind, columns):
    given = columns(10)["charge"]
    path, use = write(kind, {f"CALQ_{i}": given[:, i].copy() for i in range(48)})
    got, _, _ = read(use, path, columns={"charge": {"from": "CALQ", "form": "float32[48]"}})
    np.testing.assert_array_equal(got["charge"], given)
    with pytest.raises(DataError, match="'CALQ' in the file, got no such column"):
        read(use, path, columns={"charge": {"from": "CALQ", "form": "float32[49]"}})


@formats
def test_lists_of_the_right_length_are_items(write, read, kind):
    path, use = write(kind, {"q": lists([3, 3, 3])})
    got, _, rejected = read(use, path, columns={"q": "float32[3]"})
    assert got["q"].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert rejected == []


@formats
@pytest.mark.parametrize(
    ("how", "kept", "refused"),
    [
        ({}, {1: [2, 3]}, {0: 1, 2: 3, 3: 0}),
        ({"pad": -1}, {0: [0, -1], 1: [2, 3], 3: [-1, -1]}, {2: 3}),
        ({"cut": True}, {1: [2, 3], 2: [4, 5]}, {0: 1, 3: 0}),
        ({"pad": 0, "cut": True}, {0: [0, 0], 1: [2, 3], 2: [4, 5], 3: [0, 0]}, {}),
    ],
)
def test_lists_of_other_lengths(write, read, kind, how, kept, refused):
    ragged = [np.float32([0]), np.float32([2, 3]), np.float32([4, 5, 6]), np.float32([])]
    path, use = write(kind, {"q": ragged})
    got, _, rejected = read(use, path, columns={"q": {"form": "float32[2]", **how}})
    assert dict(zip(got["event_id"].tolist(), got["q"].tolist(), strict=True)) == kept
    reasons = {f"{path.name}: event {row}": f"q: expected 2 entries, got {length}"
               for row, length in refused.items()}  # fmt: skip
    assert {bad.where: bad.reason for bad in rejected} == reasons
    assert sum(bad.events for bad in rejected) == len(refused)


@pytest.mark.parametrize(
    ("given", "form", "good"),
    [
        (np.array([0, 1, 2**31 - 1], np.int32), "uint32", [0, 1, 2]),
        (np.array([0, -1, 5], np.int32), "uint32", [0, 2]),
        (np.array([0, 2**32, 2**32 - 1], np.int64), "uint32", [0, 2]),
        (np.array([0, 2**63, 1], np.uint64), "int64", [0, 2]),
        (np.array([0, 200, 127], np.uint8), "int8", [0, 2]),
        (np.array([True, False]), "uint8", [0, 1]),
        (np.array([0, 2**40], np.int64), "float32", [0, 1]),
        (np.array([1e300, 1.5]), "float32", [0, 1]),  # infinite: the stages' to refuse
        (np.array([np.nan, np.inf, -0.0], np.float32), "float64", [0, 1, 2]),
    ],
)
@formats
def test_numbers_of_another_type(write, read, kind, given, form, good):
    path, use = write(kind, {"x": given})
    got, _, rejected = read(use, path, columns={"x": form})
    assert got["event_id"].tolist() == good
    assert str(got["x"].dtype) == form
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got["x"], given[good].astype(form))
    assert len(rejected) == len(given) - len(good)
    for bad in rejected:
        assert bad.reason.startswith(f"x: expected {form}, got ")


@formats
@pytest.mark.parametrize(
    ("mapping", "error", "words"),
    [
        ({"word": "uint32[12]"}, DataError, ("'word'", "no such column", "did you mean 'words'?")),
        ({"words": "uint32[13]"}, DataError, ("'words'", "uint32[13]", "got uint32[12]")),
        ({"charge": "uint32[48]"}, DataError, ("expected uint32[48]", "got float32[48]")),
        ({"number": "float32[2]"}, DataError, ("expected float32[2]", "got int64")),
        ({"words": "uint33[12]"}, ConfigError, ("'uint33[12]'",)),
        ({"words": "str"}, ConfigError, ("'str'",)),
        ({"words": {}}, ConfigError, ("'words'", "`form`")),
        ({"event_id": {"from": "number", "form": "int32"}}, ConfigError, ("uint64", "int32")),
        ({"number": {"form": "uint8", "pad": 0.5}}, ConfigError, ("pad", "uint8", "0.5")),
        ({"number": {"form": "uint8", "pad": 256}}, ConfigError, ("pad", "uint8", "256")),
    ],
)
def test_mappings_that_do_not_fit(write, kind, mapping, error, words, columns, make):
    path, use = write(kind, columns(3))
    with pytest.raises(error) as caught:  # of the entry itself, before the file is opened
        make(use, path, columns=mapping).open()
    for word in (str(path), *words):
        assert word in str(caught.value)


@formats
def test_events_that_are_all_refused(write, make, kind):
    """So many are listed one by one; the others are counted."""
    path, use = write(kind, {"x": np.full(70_000, -1, np.int32)})
    source = make(use, path, columns={"x": "uint8"})
    source.open()
    assert source.read(100) is None
    losses = source.losses()
    source.close()
    assert [bad.where for bad in losses.invalid] == [f"{path.name}: event {n}" for n in range(1000)]
    assert losses.unlisted_events == 69_000
