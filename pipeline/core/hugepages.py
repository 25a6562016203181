"""Arrays on huge pages, for the columns of batches.

The columns of a batch take megabytes. On pages of 4 KiB, reading them costs many TLB misses, which
are twice as expensive in a virtual machine. Arrays that each begin at a huge page of their own map
to the same cache sets; therefore several arrays share an arena, one behind the other.
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

#: Size of a huge page of x86-64, and of AArch64 with pages of 4 KiB, bytes.
_HUGE = 1 << 21
#: Size of the shared arena of `allocate`, bytes; pages use memory only once they are touched.
_SHARED_BYTES = 1 << 26
#: Size of a cache line, bytes.
_LINE = 64


class Arena:
    """Memory that arrays are allocated from, front to back; from NumPy once it is used up."""

    def __init__(self, whole: Array) -> None:
        self._free = whole

    def empty(self, shape: int | Sequence[int], dtype: DTypeLike) -> Array:
        """Return an uninitialised array, as `numpy.empty` does."""
        item: np.dtype[Any] = np.dtype(dtype)
        sides = (shape,) if isinstance(shape, int) else tuple(shape)
        size = math.prod(sides) * item.itemsize
        if padded_size(size) > len(self._free):
            return np.empty(sides, item)
        array = self._free[:size].view(item).reshape(sides)
        self._free = self._free[padded_size(size) :]
        return array

    def fits(self, size: int) -> bool:
        """Whether an array of `size` bytes fits."""
        return padded_size(size) <= len(self._free)


class ArenaPool:
    """Pool of huge-page arenas; an arena is reused when no array refers to it any more."""

    def __init__(self) -> None:
        self._idle: deque[mmap.mmap] = deque()

    def preallocate(self, arenas: int, size: int) -> None:
        """Make arenas of `size` bytes with touched pages: the first touch can take milliseconds."""
        held = [self.get(size).empty(size, np.uint8) for _ in range(arenas)]
        for array in held:
            array.fill(0)

    def get(self, size: int) -> Arena:
        """Return an arena for arrays whose padded sizes add up to `size` bytes."""
        wanted = -(-padded_size(size) // _HUGE) * _HUGE
        pages = self._idle.pop() if self._idle else _map(wanted)
        if len(pages) < wanted + _HUGE:
            pages = _map(wanted)  # the smaller mapping is released
        whole = _aligned(pages)
        # All arrays of the arena have this one as their base.
        weakref.finalize(whole, self._idle.append, pages).atexit = False
        return Arena(whole)


def padded_size(size: int) -> int:
    """Return `size` rounded up to cache lines, plus one line of padding."""
    return (size // _LINE + 2) * _LINE


def _map(size: int) -> mmap.mmap:
    pages = mmap.mmap(-1, size + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without huge pages: then small ones
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def _aligned(pages: mmap.mmap) -> Array:
    """Return the bytes of a mapping from its first huge-page boundary on, uint8."""
    size = len(pages) - _HUGE
    first = -np.frombuffer(pages, np.uint8).ctypes.data % _HUGE
    return np.frombuffer(pages, np.uint8, size, first)


_shared = Arena(np.empty(0, np.uint8))
_lock = threading.Lock()


def allocate(shape: int | Sequence[int], dtype: DTypeLike) -> Array:
    """Return an uninitialised array for long use, in an arena that all callers share.

    Its memory is released when all arrays of the arena are.
    """
    global _shared
    sides = (shape,) if isinstance(shape, int) else tuple(shape)
    size = math.prod(sides) * np.dtype(dtype).itemsize
    with _lock:
        if not _shared.fits(size):
            _shared = Arena(_aligned(_map(max(_SHARED_BYTES, padded_size(size)))))
        return _shared.empty(sides, dtype)
