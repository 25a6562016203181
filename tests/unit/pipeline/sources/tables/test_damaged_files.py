"""Tables that are broken, cut or not there: the events before the damage, and the reason."""

from __future__ import annotations

import math
import sys
import threading
from contextlib import nullcontext
from functools import partial
from itertools import count, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError, DataError
from sluice.pipeline.core.hugepages import ArenaPool
from sluice.pipeline.sources.base import Rejected
from sluice.pipeline.sources.prefetch import Chunk, Prefetcher
from sluice.pipeline.sources.rebatching import Rebatcher
from sluice.pipeline.sources.tables.spans import readable, spans

h5py = pytest.importorskip("h5py", reason="the extra hdf5 is not installed")
uproot = pytest.importorskip("uproot", reason="the extra root is not installed")
ak = pytest.importorskip("awkward", reason="the extra root is not installed")

formats = pytest.mark.parametrize("kind", ["hdf5", "parquet", "root-tree", "root-ntuple"])


@pytest.mark.parametrize("kind", ["parquet", "root-tree", "root-ntuple"])  # HDF5 is C throughout
def test_spoiled_bytes_never_surprise(write, kind, columns, make):
    """A file with some bytes changed is read, read in part, or refused; never a traceback."""
    path, use = write(kind, columns(100))
    whole = path.read_bytes()
    random = np.random.default_rng(5)
    ends = set()
    for _ in range(40):
        content = bytearray(whole)
        for place in random.integers(0, len(whole), 20):
            content[place] = random.integers(256)
        path.write_bytes(content)
        source = make(use, path)
        try:
            source.open()
        except DataError:
            ends.add("refused")
            continue
        while not source.exhausted:
            source.read(30)
        ends.add("damaged" if source.corruption else "read")
        source.close()
    assert ends >= {"refused", "damaged"}


@formats
@pytest.mark.parametrize("content", [b"", b"root", b"no table at all" * 10, bytes(4096)])
def test_files_of_another_kind(write, kind, content, columns, make):
    path, use = write(kind, columns(3))
    path.write_bytes(content)
    with pytest.raises(DataError, match=str(path)):
        make(use, path).open()


@pytest.mark.parametrize("use", ["hdf5", "parquet", "root"])
def test_no_such_file(tmp_path, use, make):
    for path in (tmp_path / "no.file", tmp_path):
        with pytest.raises(DataError, match="cannot open"):
            make(use, path).open()


@pytest.mark.parametrize(("use", "module"), [("hdf5", "h5py"), ("root", "uproot")])
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, use, module, make):
    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=module) as error:
        make(use, tmp_path / "file").open()
    assert error.value.hint == f"pip install 'sluice-daq[{use}]'"


@pytest.mark.parametrize("kind", ["parquet", "root-tree", "root-ntuple"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_cut_files_whose_contents_are_lost_are_refused(write, kind, share, columns, make):
    path, use = write(kind, columns(500))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=str(path)) as error:
        make(use, path).open()
    if use == "root":
        assert f"cut short: expected {len(whole)} bytes" in str(error.value)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_cut_hdf5_gives_the_events_before_the_cut(write, read, share, columns):
    given = columns(5000)
    path, _ = write("hdf5", {"words": given["words"]})
    whole = path.read_bytes()
    size = int(len(whole) * share)
    path.write_bytes(whole[:size])
    got, source, _ = read("hdf5", path)
    there = len(got["words"])
    np.testing.assert_array_equal(got["words"], given["words"][:there])
    assert there == pytest.approx((size - 2048) // 48, abs=1)
    assert f"damaged at event {there}" in source.corruption


def test_damage_in_the_midst_of_a_tree(tmp_path, read):
    given = np.arange(60_000, dtype=np.uint32).reshape(5000, 12)
    path = tmp_path / "t.root"
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        tree = file.mktree("Events", {"words": np.dtype((np.uint32, (12,)))})
        for start in range(0, 5000, 500):
            tree.extend({"words": given[start : start + 500]})
    with uproot.open(path) as file:
        key = file["Events"]["words"].member("fBasketSeek")[7]
    content = bytearray(path.read_bytes())
    content[key + 200 : key + 900] = bytes(700)
    path.write_bytes(content)
    got, source, _ = read("root", path, max_events=300)
    assert len(got["words"]) == 3500
    np.testing.assert_array_equal(got["words"], given[:3500])
    assert "damaged at event 3500" in source.corruption


def test_damage_in_the_midst_of_a_parquet_file(tmp_path, read):
    given = np.random.default_rng(3).integers(0, 2**32, 40_000, np.uint32)
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": given}), path, row_group_size=10_000, use_dictionary=False,
                   write_page_checksum=True)  # fmt: skip
    middle = pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[middle + 5000] ^= 0xFF
    path.write_bytes(content)
    got, source, _ = read("parquet", path)
    np.testing.assert_array_equal(got["x"], given[:20_000])
    assert "damaged at event 20000" in source.corruption


def test_damage_in_the_midst_of_an_hdf5_file(tmp_path, read):
    given = np.arange(5000, dtype=np.uint32)
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=given, chunks=(500,), compression="gzip", fletcher32=True)
        place = file["x"].id.get_chunk_info(6).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 100] ^= 0xFF
    path.write_bytes(content)
    got, source, _ = read("hdf5", path)
    assert got["x"].tolist() == list(range(3000))
    assert "damaged at event 3000" in source.corruption


@pytest.mark.parametrize("bad", range(17))
def test_readable_gives_all_before_the_first_bad_event(bad):
    def read(start, stop):
        if start <= bad < stop:
            raise ValueError("rotten")
        return list(range(start, stop))

    got = []

    def collect():
        for part in readable(read, [(0, 10), (10, 17)]):
            assert len(part.values) == part.events
            got.extend(part.values)

    with pytest.raises(DataError, match=f"damaged at event {bad}: ValueError: rotten"):
        collect()
    assert got == list(range(bad))


def chunk(number):
    return Chunk(EventBatch({"x": np.array([number])}, 1), [])


def numbers(batch):
    return None if batch is None else batch["x"].tolist()


def test_ahead_gives_errors_where_they_happen():
    def items():
        yield chunk(1)
        yield chunk(2)
        raise DataError("here")

    ahead = Prefetcher(items(), lambda rejected: None)
    assert (numbers(ahead.read(1)), numbers(ahead.read(1))) == ([1], [2])
    assert ahead.corruption is None
    for _ in range(2):  # who asks again hears it again
        assert ahead.read(1) is None
        assert ahead.corruption == "here"
        assert ahead.exhausted
    ahead.close()


def test_ahead_raises_what_nobody_foresaw_again_and_again():
    def items():
        yield chunk(1)
        raise ZeroDivisionError("here")

    ahead = Prefetcher(items(), lambda rejected: None)
    assert numbers(ahead.read(1)) == [1]
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="here"):
            ahead.read(1)
    ahead.close()


def test_ahead_takes_little_and_can_be_closed_at_any_time():
    taken: list[int] = []
    before = threading.active_count()
    ahead = Prefetcher((taken.append(n) or chunk(n) for n in count(1)), lambda rejected: None)
    assert [numbers(ahead.read(1)) for _ in range(5)] == [[1], [2], [3], [4], [5]]
    ahead.close()
    assert taken == list(range(1, len(taken) + 1))
    assert 5 <= len(taken) <= 7
    assert threading.active_count() <= before


def test_rejected_events_come_with_their_chunk():
    rejected = [Rejected("here", "bad", b"")]
    got = []
    items = iter([chunk(1), Chunk(chunk(2).batch, rejected)])
    ahead = Prefetcher(items, got.extend)
    assert numbers(ahead.read(1)) == [1]
    assert got == []
    assert numbers(ahead.read(1)) == [2]
    assert got == rejected
    ahead.close()


def test_ahead_of_nothing():
    ahead = Prefetcher(iter(()), lambda rejected: None)
    assert ahead.read(1) is ahead.read(1) is None
    assert ahead.exhausted
    assert ahead.corruption is None
    ahead.close()


def test_it_is_closed_without_having_been_read():
    Prefetcher(iter(()), lambda rejected: None).close()


def test_rebatching_without_batches():
    assert Rebatcher(lambda: None).read(5) is None


def test_spans():
    assert list(spans([0, 10], 100)) == [(0, 10)]
    assert list(spans([0, 4, 8, 12], 8)) == [(0, 8), (8, 12)]
    assert list(spans([0, 25], 10)) == [(0, 10), (10, 20), (20, 25)]
    assert list(spans([0], 10)) == []


@given(
    st.lists(st.integers(0, 9), max_size=12),
    st.integers(1, 7),
    st.integers(1, 12) | st.just(math.inf),
    st.booleans(),
)
def test_chunks_are_full_and_errors_come_behind_all_events(lengths, events, large, breaks):
    """But where as many as `large` of a batch are left, these are a chunk, and not copied."""
    ids = np.arange(sum(lengths))
    cuts = np.cumsum([0, *lengths])

    def batches():
        for start, stop in pairwise(cuts):
            yield EventBatch({"x": ids[start:stop]}, int(stop - start))
        if breaks:
            raise DataError("rotten")

    got = []
    with pytest.raises(DataError, match="rotten") if breaks else nullcontext():
        # extend keeps what came before an error
        rebatcher = Rebatcher(partial(next, batches(), None), large, ArenaPool())
        got.extend(iter(lambda: rebatcher.read(events), None))
    assert np.concatenate([ids[:0], *[chunk["x"] for chunk in got]]).tolist() == ids.tolist()
    start = 0
    for chunk in got:
        left = int(cuts[np.searchsorted(cuts, start, side="right")]) - start
        assert chunk.events == min(events, left if left >= large else len(ids) - start)
        assert np.shares_memory(chunk["x"], ids) or left < large
        start += chunk.events
