"""Arrays side by side on huge pages: what stages write and read again, and what they read first.

A batch's columns are megabytes. On pages of 4 KiB a walk through them waits for translations of
addresses, in a virtual machine twice over; and arrays that each begin on a huge page of their own
fight for the same lines of a cache. Here they lie one behind the other.
"""

from __future__ import annotations

import math
import mmap
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .schema import Array

#: A huge page of x86-64, and of AArch64 with pages of 4 KiB.
_HUGE = 1 << 21
#: Address space for what stays; memory it becomes as it is touched.
_RANGE = 1 << 26
_LINE = 64


class Arena:
    """Gives out its bytes once, from front to back; without enough of them, what NumPy gives."""

    def __init__(self, whole: Array) -> None:
        self._rest = whole

    def empty(self, shape: int | Sequence[int], dtype: DTypeLike) -> Array:
        """Return an uninitialised array, as `numpy.empty` does."""
        kind: np.dtype[Any] = np.dtype(dtype)
        sides = (shape,) if isinstance(shape, int) else tuple(shape)
        size = math.prod(sides) * kind.itemsize
        if padded_size(size) > len(self._rest):
            return np.empty(sides, kind)
        array = self._rest[:size].view(kind).reshape(sides)
        self._rest = self._rest[padded_size(size) :]
        return array

    def fits(self, size: int) -> bool:
        """Whether an array of so many bytes fits."""
        return padded_size(size) <= len(self._rest)


class ArenaPool:
    """Rooms that are lent, and lent again once nobody holds any array of theirs."""

    def __init__(self) -> None:
        self._idle: deque[mmap.mmap] = deque()

    def preallocate(self, rooms: int, size: int) -> None:
        """Have so many rooms of that size ready: to touch a page first can take milliseconds."""
        held = [self.get(size).empty(size, np.uint8) for _ in range(rooms)]
        for array in held:
            array.fill(0)

    def get(self, size: int) -> Arena:
        """Return a room for one array of so many bytes, or for several; see `taken_by`."""
        wanted = -(-padded_size(size) // _HUGE) * _HUGE
        pages = self._idle.pop() if self._idle else _map(wanted)
        if len(pages) < wanted + _HUGE:
            pages = _map(wanted)  # the smaller one goes
        whole = _aligned(pages)
        # All arrays of the room have this one as their base.
        weakref.finalize(whole, self._idle.append, pages).atexit = False
        return Arena(whole)


def padded_size(size: int) -> int:
    """Return the bytes that an array of so many takes: whole lines, and one of nothing."""
    return (size // _LINE + 2) * _LINE


def _map(size: int) -> mmap.mmap:
    pages = mmap.mmap(-1, size + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel that has none: then small ones
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def _aligned(pages: mmap.mmap) -> Array:
    """Return the bytes of a mapping from where a huge page begins."""
    size = len(pages) - _HUGE
    first = -np.frombuffer(pages, np.uint8).ctypes.data % _HUGE
    return np.frombuffer(pages, np.uint8, size, first)


_stays = Arena(np.empty(0, np.uint8))
_lock = threading.Lock()


def allocate(shape: int | Sequence[int], dtype: DTypeLike) -> Array:
    """Return an uninitialised array that is kept for long, behind the one given out before.

    Its memory is given back when all that lie near it are gone too.
    """
    global _stays
    sides = (shape,) if isinstance(shape, int) else tuple(shape)
    size = math.prod(sides) * np.dtype(dtype).itemsize
    with _lock:
        if not _stays.fits(size):
            _stays = Arena(_aligned(_map(max(_RANGE, padded_size(size)))))
        return _stays.empty(sides, dtype)
