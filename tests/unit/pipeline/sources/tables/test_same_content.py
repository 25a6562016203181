"""One table, written in every format and in several files, is read as the same events."""

from __future__ import annotations

import csv
import itertools
import json

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.pipeline.config.plugins import load_class

h5py = pytest.importorskip("h5py", reason="the extra hdf5 is not installed")
uproot = pytest.importorskip("uproot", reason="the extra root is not installed")
ak = pytest.importorskip("awkward", reason="the extra root is not installed")

FORM = {"x": "float32", "n": "int16", "pair": "uint8[2]", "hits": "float64[*]"}
#: Numbers that every format keeps bit by bit, and one that the column does not take.
NUMBERS = {
    "x": st.floats(-1000, 1000, width=32),
    "n": st.integers(-(2**15), 2**15),
    "pair": st.tuples(st.integers(0, 255), st.integers(0, 255)),
    "hits": st.lists(st.floats(-1e9, 1e9), max_size=4),
    "event_id": st.integers(-2, 2**62),
}
STORED = {"x": "f4", "n": "i8", "pair": "i4", "event_id": "i8"}
EVENT = st.fixed_dictionaries(NUMBERS)
#: Formats whose columns can have nulls, and the others.
NULLABLE, OTHERS = ["stream", "file", "parquet", "csv"], ["hdf5", "ends", "tree", "ntuple"]


def arrow_table(events):
    kinds = {"x": pa.float32(), "n": pa.int64(), "pair": pa.list_(pa.int32(), 2),
             "hits": pa.list_(pa.float64()), "event_id": pa.int64()}  # fmt: skip
    columns = {name: pa.array([event[name] for event in events], kind)
               for name, kind in kinds.items()}  # fmt: skip
    return pa.table({"label": pa.array(["a,b"] * len(events)), **columns})


def write_csv(path, events, chunk):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "x", "n", "pair", "hits", "event_id"])
        for event in events:
            cells = [None if event[name] is None else json.dumps(event[name])
                     for name in ("x", "n", "pair", "hits", "event_id")]  # fmt: skip
            writer.writerow(["a,b", *cells])


def write_arrow(path, events, chunk, opened):
    table = arrow_table(events)
    with opened(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=chunk)


def arrays(events):
    return {name: np.array([event[name] for event in events], dtype).reshape(
                (len(events), 2) if name == "pair" else len(events))
            for name, dtype in STORED.items()}  # fmt: skip


def write_hdf5(path, events, chunk, *, ends=False):
    with h5py.File(path, "w") as file:
        file["label"] = ["a,b"] * len(events)
        for name, values in arrays(events).items():
            size = (min(chunk, max(1, len(values))), *values.shape[1:])
            file.create_dataset(name, data=values, chunks=size, maxshape=(None, *values.shape[1:]))
        hits = [np.array(event["hits"], "f8") for event in events]
        if ends:
            file["items"] = np.concatenate([np.empty(0), *hits])
            file["ends"] = np.cumsum([len(entries) for entries in hits], dtype="u4")
        else:
            data = file.create_dataset("hits", len(events), h5py.vlen_dtype("f8"))
            for row, entries in enumerate(hits):
                data[row] = entries


def write_root(path, events, chunk, *, ntuple=False):
    flat = np.array([entry for event in events for entry in event["hits"]], np.float64)
    hits = ak.unflatten(flat, [len(event["hits"]) for event in events])
    data = {**arrays(events), "hits": hits}
    with uproot.recreate(path) as file:
        if ntuple:
            file.mkrntuple("Events", data)
            return
        types = {name: np.dtype((array.dtype, array.shape[1:])) for name, array in data.items()
                 if name != "hits"}  # fmt: skip
        tree = file.mktree("Events", {**types, "hits": "var * float64"})
        for start in range(0, len(events), chunk):
            tree.extend({name: values[start : start + chunk] for name, values in data.items()})


WRITERS = {
    "stream": ("arrow", lambda *args: write_arrow(*args, pa.ipc.new_stream)),
    "file": ("arrow", lambda *args: write_arrow(*args, pa.ipc.new_file)),
    "parquet": ("parquet", lambda path, events, chunk: pq.write_table(
        arrow_table(events), path, row_group_size=chunk)),
    "csv": ("csv", write_csv),
    "hdf5": ("hdf5", write_hdf5),
    "ends": ("hdf5", lambda *args: write_hdf5(*args, ends=True)),
    "tree": ("root", write_root),
    "ntuple": ("root", lambda *args: write_root(*args, ntuple=True)),
}  # fmt: skip


def expected(events):
    """Return the valid events, as rows, and the numbers of the others."""
    rows, bad = [], []
    for number, event in enumerate(events):
        fits = None not in event.values() and None not in event["hits"] and event["event_id"] >= 0
        if not (fits and event["n"] < 2**15):
            bad.append(number)
            continue
        rows.append((event["event_id"], event["x"], event["n"], list(event["pair"]), event["hits"]))
    return rows, bad


def read_all(use, path, columns, max_events):
    cls = load_class("source", use, "test")
    options = {"path": str(path), "columns": columns}
    source = cls("source", msgspec.convert(options, cls.Options))
    rows, rejected = [], 0
    source.open()
    try:
        while not source.exhausted:
            batch = source.read(max_events)
            rejected += len(source.losses().invalid)
            if batch is not None:
                names = ("event_id", "x", "n", "pair", "hits")
                rows += zip(*(batch[name].tolist() for name in names), strict=True)
    finally:
        source.close()
    assert source.corruption is None
    return rows, rejected


def compare(folder, kinds, files, chunk, max_events):
    events = list(itertools.chain(*files))
    rows, bad = expected(events)
    for kind in kinds:
        use, write = WRITERS[kind]
        for number, part in enumerate(files):
            write(folder / f"{kind}{number}.data", part, chunk)
        columns = FORM | (
            {"hits": {"form": "float64[*]", "from": "items", "ends": "ends"}}
            if kind == "ends" else {}
        )  # fmt: skip
        got, rejected = read_all(use, folder / f"{kind}*.data", columns, max_events)
        assert (kind, got) == (kind, rows)
        assert (kind, rejected) == (kind, len(bad))
        for path in folder.glob("*.data"):
            path.unlink()


def with_nulls(event):
    """Events in which any value, or an item of the list, is null."""
    nullable = {name: st.none() | values for name, values in NUMBERS.items()}
    nullable["hits"] = st.none() | st.lists(NUMBERS["x"] | st.none(), max_size=4)
    return st.one_of(event, st.fixed_dictionaries(nullable))


FILES = st.lists(st.lists(EVENT, min_size=1, max_size=6), min_size=1, max_size=3)
FILES_WITH_NULLS = st.lists(
    st.lists(with_nulls(EVENT), min_size=1, max_size=6), min_size=1, max_size=3
)


@settings(max_examples=6, deadline=None)
@given(FILES, st.integers(1, 5), st.integers(1, 9))
def test_every_format_gives_the_same_events(tmp_path_factory, files, chunk, max_events):
    folder = tmp_path_factory.mktemp("same")
    compare(folder, [*NULLABLE, *OTHERS], files, chunk, max_events)


@settings(max_examples=12, deadline=None)
@given(FILES_WITH_NULLS, st.integers(1, 5), st.integers(1, 9))
def test_a_null_costs_the_same_event_in_every_format(tmp_path_factory, files, chunk, max_events):
    compare(tmp_path_factory.mktemp("nulls"), NULLABLE, files, chunk, max_events)
