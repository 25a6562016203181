"""Types of Arrow and Parquet: unread ones never matter, nulls cost their event."""

from __future__ import annotations

import decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sluice.pipeline.core.errors import DataError

N = 6
ENERGY = pa.array(np.arange(N, dtype=np.float32))
OTHERS = {
    "text": pa.array(["a"] * N),
    "large_text": pa.array(["a"] * N, pa.large_string()),
    "binary": pa.array([b"a"] * N),
    "bool": pa.array([True] * N),
    "timestamp": pa.array(range(N), pa.timestamp("us", "Europe/Zurich")),
    "date": pa.array(range(N), pa.date32()),
    "time": pa.array(range(N), pa.time64("ns")),
    "duration": pa.array(range(N), pa.duration("s")),
    "decimal": pa.array([decimal.Decimal(1)] * N, pa.decimal128(10, 2)),
    "dictionary": pa.array(["a", "b"] * (N // 2)).dictionary_encode(),
    "map": pa.array([[("k", 1)]] * N, pa.map_(pa.string(), pa.int32())),
    "list_of_lists": pa.array([[[1], [2, 3]]] * N),
    "list_of_text": pa.array([["a"]] * N),
    "struct": pa.array([{"a": 1, "b": "x"}] * N),
    "empty_struct": pa.array([{}] * N, pa.struct([])),
    "null": pa.nulls(N),
    "float16": pa.array(np.arange(N, dtype=np.float16)),
}
NOT_IN_PARQUET = {
    "union": pa.UnionArray.from_sparse(pa.array([0] * N, pa.int8()), [pa.array(range(N))]),
    "run_end": pa.RunEndEncodedArray.from_arrays(pa.array([N], pa.int32()), pa.array(["a"])),
    "view": pa.array([[1]] * N, pa.list_view(pa.int32())),
    "string_view": pa.array(["a"] * N, pa.string_view()),
}
FORMATS = ["stream", "file", "parquet"]


@pytest.fixture
def table(tmp_path, read):
    """Write an Arrow table in a format, and read some columns of it."""

    def read_back(how, data, max_events=4, names=None, **options):
        data = pa.table(list(data.values()), names or list(data))
        path = tmp_path / "t"
        if how == "parquet":
            pq.write_table(data, path, row_group_size=4)
            return read("parquet", path, max_events, **options)
        opened = pa.ipc.new_file if how == "file" else pa.ipc.new_stream
        with opened(path, data.schema) as writer:
            writer.write_table(data, max_chunksize=4)
        return read("arrow", path, max_events, **options)

    return read_back


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("other", [*OTHERS, *NOT_IN_PARQUET])
def test_a_column_that_is_not_read_never_matters(table, how, other):
    if how == "parquet" and other in {*NOT_IN_PARQUET, "empty_struct"}:
        return
    columns = {other: (OTHERS | NOT_IN_PARQUET)[other], "energy": ENERGY}
    got, _, rejected = table(how, columns, columns={"energy": "float32"})
    assert (got["energy"].tolist(), rejected) == (list(range(N)), [])
    got, _, rejected = table(how, columns, select=("energy",))
    assert (got["energy"].tolist(), rejected) == (list(range(N)), [])


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint32(), pa.uint64()]
)
def test_ids_of_any_integer_type(table, how, kind):
    ids = pa.array([5, 3, 1, 100, 7, 0], kind)
    got, _, _ = table(how, {"event_id": ids, "energy": ENERGY})
    assert got["event_id"].tolist() == [5, 3, 1, 100, 7, 0]
    assert got["event_id"].dtype == np.uint64


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize(
    ("ids", "got"),
    [
        (pa.array(np.arange(N) * 1.0), "float64"),
        (pa.array(["a"] * N), "string"),
        (pa.array([True] * N), "bool"),
        (pa.array([[1]] * N), r"int64\[\*\]"),
        (OTHERS["timestamp"], "times in us"),
    ],
)
def test_ids_that_are_no_integers_are_refused(table, how, ids, got):
    for columns in ({}, {"energy": "float32"}):
        with pytest.raises(DataError, match=f"column 'event_id': expected integers, got {got}"):
            table(how, {"event_id": ids, "energy": ENERGY}, columns=columns)
    other = {"event_id": {"from": "number"}, "energy": "float32"}
    numbers = {"event_id": ids, "energy": ENERGY, "number": pa.array(range(10, 10 + N))}
    assert table(how, numbers, columns=other)[0]["event_id"].tolist() == list(range(10, 10 + N))


@pytest.mark.parametrize("how", FORMATS)
def test_whole_numbers_stored_as_floating_point_are_ids_by_name(table, how):
    ids = pa.array([1.0, 2.5, np.nan, -1.0, 2.0**60, 6.0])
    columns = {"event_id": {"from": "event_id"}, "energy": "float32"}
    got, _, rejected = table(how, {"event_id": ids, "energy": ENERGY}, columns=columns)
    assert (got["event_id"].tolist(), got["energy"].tolist()) == ([1, 6], [0, 5])
    assert [bad.where for bad in rejected] == [f"t: event {row}" for row in (1, 2, 3, 4)]
    assert rejected[0].reason == "event_id: expected a whole number, got 2.5"


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize(("unit", "ns"), [("s", 10**9), ("ms", 10**6), ("us", 1000), ("ns", 1)])
def test_times_become_ns(table, how, unit, ns):
    if (how, unit) == ("parquet", "s"):  # Parquet has no seconds
        unit, ns = "ms", 10**6
    times = pa.array([0, -3, 5, 2**62, None, 7], pa.timestamp(unit))
    columns = {"t_event": times, "at": times, "energy": ENERGY}
    got, _, rejected = table(how, columns, columns={"at": "int64"})
    kept = [0, -3, 5, 7] if ns > 1 else [0, -3, 5, 2**62, 7]
    assert got["t_event"].tolist() == got["at"].tolist() == [value * ns for value in kept]
    assert {bad.reason.partition(", got")[0] for bad in rejected} <= {
        "t_event: expected a time in int64 ns", "at: expected a time in int64 ns",
        "at: expected a value", "t_event: expected a value",
    }  # fmt: skip
    assert len(rejected) == N - len(kept)


@pytest.mark.parametrize("how", FORMATS)
def test_seconds_are_times_only_if_the_graph_says_so(table, how):
    seconds = pa.array([0.25, 1.5, np.nan, 1e300, -2.0, 1.7e9])
    with pytest.raises(DataError, match="column 't_event': expected integers in ns") as error:
        table(how, {"t_event": seconds, "energy": ENERGY})
    assert 'unit = "s"' in str(error.value)
    with pytest.raises(DataError, match="'sec': expected integers in ns, got float64"):
        table(how, {"sec": seconds}, columns={"t_event": {"from": "sec"}})
    columns = {"t_event": {"from": "sec", "unit": "s"}, "energy": "float32"}
    got, _, rejected = table(how, {"sec": seconds, "energy": ENERGY}, columns=columns)
    assert got["t_event"].tolist() == [250_000_000, 1_500_000_000, -2 * 10**9, 17 * 10**17]
    assert [bad.where for bad in rejected] == ["t: event 2", "t: event 3"]


@pytest.mark.parametrize("how", FORMATS)
def test_a_null_costs_its_event_alone(table, how):
    columns = {
        "x": pa.array([None, 1.0, 2.0, 3.0, 4.0, 5.0], pa.float32()),
        "unread": pa.array([None] * N, pa.int8()),
        "pair": pa.array(
            [[1, 2], None, [3, None], [4, 5], [6, 7], [8, 9]], pa.list_(pa.int16(), 2)
        ),
        "hits": pa.array([[1], [], [2], [3, None], None, [4, 5]], pa.list_(pa.int32())),
    }
    mapping = {"x": "float32", "pair": "int16[2]", "hits": "int32[*]"}
    got, _, rejected = table(how, columns, columns=mapping)
    assert got["event_id"].tolist() == [5]
    assert (got["pair"].tolist(), got["hits"].tolist()) == ([[8, 9]], [[4, 5]])
    assert [bad.where for bad in rejected] == [f"t: event {row}" for row in range(5)]
    got, _, rejected = table(how, columns, columns={"hits": "int32[*]"})
    assert got["event_id"].tolist() == [0, 1, 2, 5]
    assert got["hits"].tolist() == [[1], [], [2], [4, 5]]


@pytest.mark.parametrize("how", FORMATS)
def test_records_and_lists_of_records(table, how):
    jet = pa.struct([("pt", pa.float32()), ("id", pa.struct([("pdg", pa.int32())]))])
    rows = [
        [{"pt": 1, "id": {"pdg": 11}}, {"pt": 2, "id": {"pdg": -11}}], [],
        [{"pt": 3, "id": None}], None, [{"pt": 4, "id": {"pdg": 13}}], [None],
    ]  # fmt: skip
    beam = [{"x": 1.0}, {"x": None}, {"x": 3.0}, {"x": 4.0}, None, {"x": 6.0}]
    columns = {"jets": pa.array(rows, pa.list_(jet)), "beam": pa.array(beam)}
    mapping = {"pt": {"from": "jets.pt", "form": "float32[*]"},
               "both": {"from": ["jets.pt", "jets.id.pdg"], "form": "float64[*,2]"}}  # fmt: skip
    got, _, rejected = table(how, columns, columns={"pt": mapping["pt"]})
    assert got["pt"].tolist() == [[1, 2], [], [3], [4]]
    assert [bad.where for bad in rejected] == ["t: event 3", "t: event 5"]
    got, _, _ = table(how, columns, columns={"both": mapping["both"]})
    assert got["both"].tolist() == [[[1, 11], [2, -11]], [], [[4, 13]]]
    got, _, _ = table(how, columns, columns={"x": {"from": "beam.x", "form": "float64"}})
    assert got["x"].tolist() == [1, 3, 4, 6]


@pytest.mark.parametrize("how", ["stream", "file"])
def test_a_name_that_two_columns_have(table, how):
    columns = {"x": ENERGY, "y": ENERGY, "z": ENERGY}
    got, _, _ = table(how, columns, names=["x", "y", "x"], columns={"y": "float32"})
    assert got["y"].tolist() == list(range(N))
    with pytest.raises(DataError, match="'x': expected numbers, got several columns of this name"):
        table(how, columns, names=["x", "y", "x"], columns={"x": "float32"})


@pytest.mark.parametrize("how", FORMATS)
def test_channels_are_stacked(table, how):
    waves = np.arange(12 * N * 3, dtype=np.int16).reshape(12, N, 3)
    channels = {f"ch{n}": pa.FixedSizeListArray.from_arrays(pa.array(waves[n].reshape(-1)), 3)
                for n in range(12)}  # fmt: skip
    for names in ("ch*", [f"ch{n}" for n in range(12)]):
        entry = {"from": names, "form": "int16[12,3]"}
        got, _, _ = table(how, channels, columns={"w": entry})
        np.testing.assert_array_equal(got["w"], waves.transpose(1, 0, 2))
    with pytest.raises(DataError, match=r"'ch0': expected int16\[4\], got int16\[3\]"):
        table(how, channels, columns={"w": {"from": "ch*", "form": "int16[12,4]"}})


def test_numbers_in_a_dictionary_and_in_extensions(table):
    x = pa.array([5, 7, 5, None, 7, 5], pa.int32()).dictionary_encode()
    grid = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(24).reshape(N, 2, 2))
    got, _, rejected = table("stream", {"x": x, "grid": grid})
    assert got["x"].tolist() == [5, 7, 5, 7, 5]
    assert got["grid"].reshape(-1, 4)[-1].tolist() == [20, 21, 22, 23]
    assert [bad.where for bad in rejected] == ["t: event 3"]


def test_a_null_in_a_dictionary_costs_its_events(table):
    x = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 0, None, 1]), pa.array([5, None, 7]))
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 3, 3, 4, 4, 6], pa.int32()), x)
    got, _, rejected = table("stream", {"x": x})
    assert (got["event_id"].tolist(), got["x"].tolist()) == ([0, 2, 3], [5, 7, 5])
    assert {bad.reason for bad in rejected} == {"x: expected a value, got null"}
    got, _, rejected = table("stream", {"lists": lists})
    assert got["lists"].tolist() == [[5], [], [5], []]
    assert [bad.where for bad in rejected] == ["t: event 1", "t: event 5"]


def test_an_arrow_file_that_was_cut_is_read_up_to_the_cut(tmp_path, read):
    data = pa.table({"x": np.arange(1000), "label": ["a"] * 1000})
    path = tmp_path / "t.arrow"
    with pa.ipc.new_file(path, data.schema) as writer:
        writer.write_table(data, max_chunksize=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    got, source, _ = read("arrow", path, columns={"x": "int64"})
    assert got["x"].tolist() == list(range(len(got["x"])))
    assert 300 < len(got["x"]) < 1000
    assert "t.arrow: " in source.corruption
