"""Arrays on huge pages: apart from each other, given out once at a time, and given back."""

from __future__ import annotations

import gc
import mmap
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core import hugepages
from sluice.pipeline.core.batch import EventBatch, concatenate
from sluice.pipeline.core.buffers import OutputBuffers
from sluice.pipeline.core.schema import Column, Schema

DTYPES = st.sampled_from(["u1", "bool", "float32", "uint64", "int64"])
SHAPES = st.lists(st.tuples(st.lists(st.integers(0, 40), max_size=3), DTYPES), max_size=8)


def check(arrays, asked):
    """Each has the form that was asked for, none lies in another, each begins with a line."""
    for number, (array, (shape, dtype)) in enumerate(zip(arrays, asked, strict=True)):
        assert (array.shape, array.dtype) == (tuple(shape), np.dtype(dtype))
        assert array.flags.c_contiguous
        assert array.flags.writeable
        array.fill(number)
    for number, array in enumerate(arrays):
        assert (array == np.full_like(array, number)).all()


@given(SHAPES)
def test_arrays_do_not_overlap(asked):
    arrays = [hugepages.allocate(shape, dtype) for shape, dtype in asked]
    check(arrays, asked)
    assert all(array.ctypes.data % 64 == 0 for array in arrays if array.size)


@given(SHAPES, st.integers(0, 100_000))
def test_an_arena_that_is_too_small_falls_back_on_numpy(asked, size):
    arena = hugepages.ArenaPool().get(size)
    check([arena.empty(shape, dtype) for shape, dtype in asked], asked)


def test_an_array_of_more_than_a_range():
    array = hugepages.allocate((65, 1 << 20), np.uint8)
    array[0], array[-1] = 1, 2
    assert (array[0].sum(), array[-1].sum()) == (1 << 20, 2 << 20)


def test_an_arena_in_use_is_not_given_out_again():
    pool = hugepages.ArenaPool()
    first = pool.get(1000).empty(1000, np.uint8)
    first.fill(7)
    view = first[10:20].view(np.uint8)
    del first
    other = pool.get(1000).empty(1000, np.uint8)
    other.fill(9)
    assert (view == 7).all()
    place = view.ctypes.data - 10
    del view
    assert pool.get(1000).empty(1000, np.uint8).ctypes.data == place


def test_a_larger_arena_replaces_one_that_is_idle():
    pool = hugepages.ArenaPool()
    pool.get(10).empty(10, np.uint8)
    array = pool.get(10 << 20).empty(10 << 20, np.uint8)
    array.fill(1)
    assert array.sum() == 10 << 20


def test_memory_is_unmapped_when_nothing_uses_it(monkeypatch):
    """Long-lived arrays share ranges; a pool has arenas of its own."""
    made = []

    class Mapping(mmap.mmap):
        pass

    def mapping(*args, **kwargs):
        made.append(weakref.ref(one := Mapping(*args, **kwargs)))
        return one

    monkeypatch.setattr(hugepages.mmap, "mmap", mapping)
    monkeypatch.setattr(hugepages, "_shared", hugepages.Arena(np.empty(0, np.uint8)))
    arrays = [hugepages.allocate(1 << 20, np.uint8) for _ in range(200)]
    pool = hugepages.ArenaPool()
    pool.preallocate(3, 1 << 20)
    assert len(made) > 4
    del arrays, pool
    monkeypatch.undo()
    gc.collect()
    assert not any(reference() for reference in made)


def test_preallocated_arenas_are_those_that_are_given_out(monkeypatch):
    pool = hugepages.ArenaPool()
    pool.preallocate(2, 5000)
    monkeypatch.setattr(hugepages, "_map", lambda _: pytest.fail("expected a preallocated arena"))
    held = [pool.get(5000).empty(5000, np.uint8) for _ in range(2)]
    assert not np.shares_memory(*held)


def test_a_kernel_without_huge_pages(monkeypatch):
    class Mapping(mmap.mmap):
        def madvise(self, *_):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(hugepages.mmap, "mmap", Mapping)
    array = hugepages.ArenaPool().get(100).empty(100, np.uint8)
    array.fill(3)
    assert array.sum() == 300


@given(st.lists(st.integers(0, 300), min_size=2, max_size=6))
def test_joined_batches_lie_in_one_arena(lengths):
    """And have the same events as those that NumPy joins."""
    parts = [
        EventBatch({"a": np.arange(n, dtype=np.uint64), "b": np.ones((n, 3), "f4") * k}, n, k)
        for k, n in enumerate(lengths)
    ]
    joined, plain = concatenate(parts, hugepages.ArenaPool()), concatenate(parts)
    assert (joined.events, joined.seq) == (plain.events, plain.seq)
    for name, column in plain.columns.items():
        assert (joined[name] == column).all()
    if plain.events:
        assert joined["a"].base is joined["b"].base is not None


def test_a_pool_grows():
    pool = OutputBuffers(Schema((Column("x", "float32", (4,)), Column("y", "uint8"))), 10)
    few = pool.arrays(10)
    assert [array.shape for array in few] == [(10, 4), (10,)]
    assert pool.arrays(10) is few
    assert [array.shape for array in pool.arrays(25)] == [(25, 4), (25,)]
