"""Tables of all formats, written and read."""

from __future__ import annotations

import threading

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sluice.pipeline.config.plugins import load_class
from sluice.pipeline.core.batch import concatenate

h5py = pytest.importorskip("h5py", reason="the extra hdf5 is not installed")
uproot = pytest.importorskip("uproot", reason="the extra root is not installed")
ak = pytest.importorskip("awkward", reason="the extra root is not installed")


def write_hdf5(path, columns):
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            if isinstance(values, list):
                kind = h5py.vlen_dtype(np.asarray(values[0]).dtype)
                values = np.array([*values, None], object)[:-1].astype(kind)
            file.create_dataset(name, data=values)


def arrow_table(columns):
    """Return columns as an Arrow table, lists and items of fixed size as such."""

    def array(values):
        if isinstance(values, list):
            return pa.array([entries.tolist() for entries in values],
                            pa.list_(pa.from_numpy_dtype(values[0].dtype)))  # fmt: skip
        kind = pa.from_numpy_dtype(values.dtype)
        flat = pa.array(values.reshape(-1))
        for size in reversed(values.shape[1:]):
            flat = pa.FixedSizeListArray.from_arrays(flat, size)
        return flat if values.ndim > 1 else flat.cast(kind)

    return pa.table({name: array(values) for name, values in columns.items()})


def write_parquet(path, columns):
    pq.write_table(arrow_table(columns), path)


def write_arrow_stream(path, columns):
    table = arrow_table(columns)
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=30)


def write_arrow_file(path, columns):
    table = arrow_table(columns)
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=30)


def in_root(columns):
    return {n: ak.Array(v) if isinstance(v, list) else v for n, v in columns.items()}


def write_tree(path, columns):
    with uproot.recreate(path) as file:
        data = in_root(columns)
        types = {
            name: values.type.content if isinstance(values, ak.Array)
            else np.dtype((values.dtype, values.shape[1:]))
            for name, values in data.items()
        }  # fmt: skip
        tree = file.mktree("Events", types)
        if len(next(iter(columns.values()))):
            tree.extend(data)


def write_ntuple(path, columns):
    with uproot.recreate(path) as file:
        file.mkrntuple("Events", in_root(columns))


WRITERS = {
    "arrow-file": (".feather", write_arrow_file),
    "arrow-stream": (".arrows", write_arrow_stream),
    "hdf5": (".h5", write_hdf5),
    "parquet": (".parquet", write_parquet),
    "root-tree": (".root", write_tree),
    "root-ntuple": (".root", write_ntuple),
}


@pytest.fixture(scope="session")
def make():
    """Make a source, not open yet."""

    def source(use, path, **options):
        cls = load_class("source", use, "test")
        return cls("source", msgspec.convert({"path": str(path), **options}, cls.Options))

    return source


@pytest.fixture(scope="session")
def columns():
    """Make columns of so many events."""

    def made(events, seed=1):
        random = np.random.default_rng(seed)
        return {
            "words": random.integers(0, 2**32, (events, 12), np.uint32),
            "charge": random.normal(size=(events, 48)).astype(np.float32),
            "number": np.arange(events, dtype=np.int64),
        }

    return made


@pytest.fixture
def write(tmp_path):
    """Write columns in a format; return the path and the source's name."""

    def to(kind, columns, name="table"):
        suffix, writer = WRITERS[kind]
        path = tmp_path / f"{name}{suffix}"
        writer(path, columns)
        return path, kind.partition("-")[0]

    return to


@pytest.fixture
def read(make):
    """Read all of a source; return the columns joined, the source, and what was rejected."""
    sources = []

    def all_of(use, path, max_events=1000, select=None, **options):
        source = make(use, path, **options)
        source.open()
        sources.append(source)
        if select is not None:
            source.select_columns(select, max_events)
        batches, rejected = [], []
        while not source.exhausted:
            batch = source.read(max_events)
            rejected += source.losses().invalid
            if batch is not None:
                assert 0 < batch.events <= max_events
                if select is None:
                    batch.check(source.schema, use)
                batches.append(batch)
        assert source.read(max_events) is None
        return dict(concatenate(batches).columns) if batches else {}, source, rejected

    yield all_of
    for source in sources:
        source.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("sluice-reader")]
